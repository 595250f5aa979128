# sendfile, splice both ways, copy_file_range and readahead-ish calls.
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
data = pattern(300001)
a = os.open(path("a"), os.O_RDWR | os.O_CREAT)
os.write(a, data)
b = os.open(path("b"), os.O_RDWR | os.O_CREAT)
off = 0
while off < len(data):
    off += os.sendfile(b, a, off, len(data) - off)
equal(os.pread(b, 400000, 0), data, "sendfile")
# file -> pipe -> file
r, w = os.pipe()
c = os.open(path("c"), os.O_RDWR | os.O_CREAT)
done = 0
while done < len(data):
    n = os.splice(a, w, 50000, offset_src=done)
    while n:
        k = os.splice(r, c, n)
        n -= k
        done += k
equal(os.pread(c, 400000, 0), data, "splice")
d = os.open(path("d"), os.O_RDWR | os.O_CREAT)
done = 0
while done < len(data):
    done += os.copy_file_range(a, d, len(data) - done, done, done)
equal(os.pread(d, 400000, 0), data, "copy_file_range")
# to a socket
import socket, threading
s, t = socket.socketpair()
got = bytearray()
def drain():
    while len(got) < len(data):
        got.extend(t.recv(65536))
th = threading.Thread(target=drain)
th.start()
off = 0
while off < len(data):
    off += os.sendfile(s.fileno(), a, off, len(data) - off)
th.join()
equal(bytes(got), data, "sendfile to a socket")
os.posix_fadvise(a, 0, 0, os.POSIX_FADV_WILLNEED)
os.posix_fadvise(a, 0, 0, os.POSIX_FADV_DONTNEED)
equal(os.pread(a, 400000, 0), data, "after fadvise")
PY
proved "sendfile to file and socket, splice in and out of a pipe, copy_file_range: same bytes"
