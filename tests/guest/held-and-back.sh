# A closed file with a held page is opened again, by name or by handle: debugfs does not list it for ever, and a deleted one is gone for handles.
# only: ochre
. "$(dirname "$0")/lib.sh"
mount_fs
[ -d /sys/kernel/debug/ochre-pmem0 ] || mount -t debugfs none /sys/kernel/debug
python3 - <<'PY'
from ochretest import *
import time

def lines():
    return [line for line in open("/sys/kernel/debug/ochre-pmem0/layout") if line.startswith(("inode", "pending_inodes"))]

def until(condition, text):
    for _ in range(400):
        if condition():
            return
        time.sleep(0.05)
    fail(f"{text}: {lines()}")

def closed(name):
    """A file that nobody has open, and nothing knows but the thread that waits for its page."""
    f = os.open(path(name), os.O_RDWR | os.O_CREAT)
    os.write(f, pattern(8 * PAGE))
    with Map(f, 8 * PAGE) as m:
        m.read(3 * PAGE, 1)
        pin = PinnedPage(m, 3 * PAGE)
    handle = name_to_handle(path(name))
    os.close(f)
    return pin, handle

def forget():
    with open("/proc/sys/vm/drop_caches", "w") as d:
        d.write("2")

nothing = ["pending_inodes 0\n"]
for what, back in (("read", lambda f: None), ("punch", lambda f: fallocate(f, PUNCH_HOLE | KEEP_SIZE, 0, 8 * PAGE)), ("truncate", lambda f: os.ftruncate(f, 0)),
                   ("collapse", lambda f: fallocate(f, COLLAPSE_RANGE, 2 * PAGE, 4 * PAGE))):
    pin, _ = closed("f")
    until(lambda: forget() or len(lines()) == 2, "the inode is listed")
    f = os.open(path("f"), os.O_RDWR)
    equal(os.pread(f, PAGE, 3 * PAGE), pattern(8 * PAGE)[3 * PAGE:4 * PAGE], "content")
    pin.release()
    back(f)
    until(lambda: lines() == nothing, f"opened again, {what}")
    os.close(f)
    os.unlink(path("f"))
    until(lambda: lines() == nothing, f"opened again, {what}, and deleted")

at = os.open(MNT, os.O_RDONLY)
pin, handle = closed("g")
os.close(open_handle(at, handle))
keeper = os.open(path("g"), os.O_RDONLY)
os.unlink(path("g"))
os.close(open_handle(at, handle))  # deleted, but in use
os.close(keeper)
refused("ESTALE", lambda: open_handle(at, handle), "handle of a deleted file whose page is held")
until(lambda: len(lines()) == 2, "the deleted inode is listed")
pin.release()
until(lambda: lines() == nothing, "deleted")
refused("ESTALE", lambda: open_handle(at, handle), "handle of a deleted file")
os.close(at)
PY
proved "held pages of a file that is opened again leave no line in debugfs; a handle of a deleted file is stale though a page of it is held"
