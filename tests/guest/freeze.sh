# fsfreeze holds back writers and write faults, lets readers through, and thaw lets everybody go on.
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
FIFREEZE, FITHAW = 0xC0045877, 0xC0045878
f = os.open(path("f"), os.O_RDWR | os.O_CREAT)
os.write(f, b"a" * 8 * PAGE)
root = os.open(MNT, os.O_RDONLY)
fcntl.ioctl(root, FIFREEZE, 0)
children = [spawn(c) for c in (
    lambda: os.pwrite(f, b"b" * PAGE, 0),
    lambda: os.close(os.open(path("new"), os.O_CREAT)),
    lambda: Map(f, 8 * PAGE).write(4 * PAGE, b"c"),
    lambda: os.unlink(path("f")))]
for c in children:
    check(blocked(c, 2.0), "a writer did not wait")
    equal(os.waitpid(c, os.WNOHANG)[0], 0, "a writer went on")
equal(os.pread(f, 8 * PAGE, 0), b"a" * 8 * PAGE, "a reader while frozen")
refused("EBUSY", lambda: fcntl.ioctl(root, FIFREEZE, 0), "frozen twice")
fcntl.ioctl(root, FITHAW, 0)
for c in children:
    reap(c, "a writer after the thaw")
equal(os.pread(f, 8 * PAGE, 0), b"b" * PAGE + b"a" * 3 * PAGE + b"c" + b"a" * (4 * PAGE - 1), "what they wrote")
equal((os.path.exists(path("new")), os.path.exists(path("f"))), (True, False), "names")
PY
proved "write, create, unlink and a store wait while frozen, reads go on, and the thaw lets all of them finish"
