# unlink, rename-over and the last close of a deleted file return at once while a stranger holds a page; the blocks come back when he lets go.
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
import time
for i in range(100):  # the directory has its blocks before space is looked at
    open(path(f"m{i}"), "w").close()
for i in range(100):
    os.unlink(path(f"m{i}"))
base = os.statvfs(MNT).f_bfree

def victim(name, size, offset):
    """A file whose only user is a pipe that holds a page of it."""
    f = os.open(path(name), os.O_RDWR | os.O_CREAT)
    fallocate(f, 0, 0, size)
    m = aligned_map(f, size)
    m.write(0, b"old!" * (size // 4))
    pin = PinnedPage(m, offset)
    m.close()
    return f, pin

def at_once(call, text):
    pid = spawn(call)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            equal(status, 0, text)
            return
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    fail(f"{text} waits for the page")

def comes_back(text):
    for _ in range(200):
        if os.statvfs(MNT).f_bfree >= base:
            return
        time.sleep(0.05)
    fail(f"{text}: {base - os.statvfs(MNT).f_bfree} blocks did not come back")

for size, offset, page in ((16 * PAGE, 4 * PAGE, "4 KiB page"), (4 * MIB, 3 * MIB, "2 MiB page")):
    f, pin = victim("a", size, offset)
    os.close(f)
    at_once(lambda: os.unlink(path("a")), f"unlink, {page}")
    check(base - os.statvfs(MNT).f_bfree >= 1, f"unlink, {page}: freed under the pipe")
    equal(pin.release(), b"old!" * (PAGE // 4), "the pipe's bytes")
    comes_back(f"unlink, {page}")

    f, pin = victim("a", size, offset)
    os.close(f)
    open(path("b"), "w").close()
    at_once(lambda: os.rename(path("b"), path("a")), f"rename over, {page}")
    equal(os.stat(path("a")).st_size, 0, "the new file")
    equal(pin.release(), b"old!" * (PAGE // 4), "the pipe's bytes")
    os.unlink(path("a"))
    comes_back(f"rename over, {page}")

    f, pin = victim("a", size, offset)
    os.unlink(path("a"))
    # The descriptor goes to a child, whose close is the last.
    pid = os.fork()
    if pid == 0:
        time.sleep(0.2)
        os.close(f)
        os._exit(0)
    os.close(f)
    end = time.monotonic() + 20
    while time.monotonic() < end and not os.waitpid(pid, os.WNOHANG)[0]:
        time.sleep(0.01)
    check(time.monotonic() < end, f"last close, {page}, waits for the page")
    # What is left of the device goes to others; the held page keeps its bytes.
    filler = os.open(path("filler"), os.O_RDWR | os.O_CREAT)
    try:
        for o in range(0, 1 << 40, 4 * MIB):
            os.pwrite(filler, b"new." * MIB, o)
    except OSError as e:
        equal(errno.errorcode[e.errno], "ENOSPC", "filling")
    os.close(filler)
    equal(pin.release(), b"old!" * (PAGE // 4), "the pipe's bytes on a full device")
    os.unlink(path("filler"))
    comes_back(f"last close, {page}")

# Many at a time, let go in another order.
pins = []
for i in range(100):
    f, pin = victim(f"m{i}", 4 * PAGE, PAGE)
    os.close(f)
    pins.append(pin)
def all_gone():
    for i in range(100):
        os.unlink(path(f"m{i}"))
at_once(all_gone, "100 unlinks")
for pin in pins[::2] + pins[1::2]:
    pin.release()
comes_back("100 files")
PY
proved "unlink, rename-over and last close return while a pipe holds a 4 KiB or 2 MiB page of the file; its bytes stay, on a full device too; all blocks come back"
