# Unlinking a mapped file with a pinned page: the name goes at once, the block only when the pipe lets go.
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
import time
base = os.statvfs(MNT).f_bfree
f = os.open(path("f"), os.O_RDWR | os.O_CREAT)
os.write(f, b"old!" * (2 * MIB))
m = Map(f, 8 * MIB)
m.read(MIB, 1)
pin = PinnedPage(m, MIB)
os.unlink(path("f"))
check(not os.path.exists(path("f")), "name")
m.close()
child = spawn(lambda: os.close(f))  # the child's copy goes
reap(child, "close in a child")
def last_close():
    pass
pid = os.fork()
if pid == 0:
    # Only a third process keeps the pipe; the file's last reference goes here and there.
    os.close(f)
    time.sleep(0.3)
    filler = os.open(path("filler"), os.O_RDWR | os.O_CREAT)
    try:
        for o in range(0, 1 << 40, 4 * MIB):
            os.pwrite(filler, b"new." * MIB, o)
    except OSError as e:
        equal(errno.errorcode[e.errno], "ENOSPC", "filling")
    equal(pin.release(), b"old!" * (PAGE // 4), "the pipe's bytes after the device was filled")
    os._exit(0)
os.close(pin.r)
os.close(pin.w)
# A filesystem that waits in the last close does so here, and is freed by the child.
closer = spawn(lambda: None)
reap(closer, "a fork")
os.close(f)
reap(pid, "the holder of the pipe")
os.unlink(path("filler"))
for _ in range(100):
    if os.statvfs(MNT).f_bfree >= base:
        break
    time.sleep(0.1)
check(os.statvfs(MNT).f_bfree >= base - 8, f"all blocks come back: {os.statvfs(MNT).f_bfree} of {base}")
PY
proved "an unlinked file's pinned page keeps its bytes while the device is filled up; afterwards every block is free again"
