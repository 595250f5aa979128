# A truncate or punch that waits for a pinned page can be killed; the file is then unchanged.
. "$(dirname "$0")/lib.sh"
mount_fs $DEV $MNT "$([ $FSTYPE != ochre ] || echo layout=wait)"
python3 - <<'PY'
from ochretest import *
f = os.open(path("f"), os.O_RDWR | os.O_CREAT)
data = pattern(16 * PAGE)
os.write(f, data)
blocks = os.fstat(f).st_blocks
m = Map(f, 16 * PAGE)
m.read(8 * PAGE, 1)
pin = PinnedPage(m, 8 * PAGE)
for what, call in (("truncate", lambda: os.ftruncate(f, 0)), ("punch", lambda: fallocate(f, PUNCH_HOLE | KEEP_SIZE, 0, 16 * PAGE))):
    child = spawn(call)
    check(blocked(child), f"{what} did not wait")
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    equal(os.WIFSIGNALED(status) and os.WTERMSIG(status), signal.SIGKILL, f"{what} dies of SIGKILL")
    equal((os.fstat(f).st_size, os.fstat(f).st_blocks), (16 * PAGE, blocks), f"size and blocks after a killed {what}")
    equal(os.pread(f, 16 * PAGE, 0), data, f"bytes after a killed {what}")
    equal(m.read(0, 16 * PAGE), data, f"mapped bytes after a killed {what}")
pin.release()
os.ftruncate(f, 0)
PY
proved "a waiting truncate and a waiting punch die of SIGKILL and leave the file as it was"
