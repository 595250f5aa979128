# A growth that waited for a held page looks again: when others have grown the file past it meanwhile, it is a shrink, with all that a shrink must do.
# only: ochre
# timeout: 120
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
import subprocess, time

def late():
    """On the first CPU, and only when nothing else wants it."""
    os.sched_setaffinity(0, {0})
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    os.ftruncate(f, 24 * PAGE)

def hog():
    os.sched_setaffinity(0, {0})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    end = time.monotonic() + 0.8
    while time.monotonic() < end:
        pass

def policy(name):
    equal(subprocess.call(["mount", "-o", f"remount,layout={name}", MNT]), 0, f"remount with layout={name}")

base = os.statvfs(MNT).f_bfree
crossed = 0
for salt in range(12):
    f = os.open(path("f"), os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    # A 2 MiB page that is held, with the end in its middle: with layout=wait growth waits for it.
    fallocate(f, 0, 0, HUGE)
    m = aligned_map(f, HUGE)
    m.write(0, pattern(64 * PAGE, salt))
    pin = PinnedPage(m, 20 * PAGE)
    os.ftruncate(f, 8 * PAGE)
    policy("wait")
    slow = spawn(late)
    check(blocked(slow), "growth over a held page does not wait")
    os.sched_setaffinity(0, {1})
    busy = spawn(hog)
    time.sleep(0.05)
    policy("defer")
    pin.release()
    os.ftruncate(f, 40 * PAGE)
    m.write(30 * PAGE, b"B" * PAGE)
    second = PinnedPage(m, 30 * PAGE)
    early = os.waitpid(slow, os.WNOHANG)[0] != 0
    if not early:
        reap(slow, "the late growth")
        # It may have come first all the same, and been slow to end.
        size = os.fstat(f).st_size
        check(size in (24 * PAGE, 40 * PAGE), f"size {size}")
        if size == 24 * PAGE:
            equal(m.probe(30 * PAGE), False, "a page behind the end is mapped still")
            crossed += 1
    # Its block is nobody else's while it is held.
    other = os.open(path("other"), os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.pwrite(other, b"new." * (64 * PAGE // 4), 0)
    equal(second.release(), b"B" * PAGE, "the held page")
    reap(busy, "hog")
    os.sched_setaffinity(0, {0, 1})
    m.close()
    os.close(f)
    os.close(other)
print(f"proved: {crossed} of 12 growths found the file larger than what they wanted, and shrank it as a truncate must")
if not crossed:
    print("no growth came late enough")
    sys.exit(77)
PY
unmount_fs
proved "a growth that waited and finds the file larger unmaps and keeps held blocks as every shrink does"
