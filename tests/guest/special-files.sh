# Device nodes, fifos and sockets: kind, numbers, persistence; they work.
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
import socket, stat
os.mknod(path("zero"), 0o600 | stat.S_IFCHR, os.makedev(1, 5))
os.mknod(path("blk"), 0o640 | stat.S_IFBLK, os.makedev(259, 0xABCDE))
os.mkfifo(path("fifo"), 0o620)
s = socket.socket(socket.AF_UNIX)
s.bind(path("sock"))
libc.umount2(MNT.encode(), 2)
mount_new("/dev/pmem0", MNT, "dax=always")
st = os.stat(path("blk"))
equal((stat.S_ISBLK(st.st_mode), os.major(st.st_rdev), os.minor(st.st_rdev), st.st_mode & 0o777), (True, 259, 0xABCDE, 0o640), "block device")
equal(stat.S_ISFIFO(os.stat(path("fifo")).st_mode), True, "fifo")
equal(stat.S_ISSOCK(os.stat(path("sock")).st_mode), True, "socket")
with open(path("zero"), "rb") as z:
    equal(z.read(100), bytes(100), "reading the zero device")
rw = os.open(path("fifo"), os.O_RDWR)
os.write(rw, b"through")
equal(os.read(rw, 10), b"through", "fifo")
for n in ("zero", "blk", "fifo", "sock"):
    os.unlink(path(n))
PY
proved "character and block devices with their numbers, fifos and sockets persist and work"
