# What a call has found out about a file before it waited for a page is found out again after: mode, set-id bits, limits, flags. The times are those of the change.
# only: ochre
. "$(dirname "$0")/lib.sh"
mount_fs $DEV $MNT layout=wait
[ -d /sys/kernel/debug/ochre-pmem0 ] || mount -t debugfs none /sys/kernel/debug
python3 - <<'PY'
from ochretest import *
import fcntl
import resource
import stat
import time

GROUP, USER = 4711, 4712
SIZE = 8 * PAGE
IMMUTABLE, APPEND = 0x10, 0x20

def waiting():
    with open("/sys/kernel/debug/ochre-pmem0/layout") as f:
        return dict(line.split()[:2] for line in f)["waiting"] == "1"

def until(condition, text):
    end = time.monotonic() + 20 * int(os.environ.get("SLOW", "1"))
    while not condition():
        check(time.monotonic() < end, text)
        time.sleep(0.01)

def flags(fd, value):
    fcntl.ioctl(fd, 0x40086602, struct.pack("Q", value))

def while_waiting(name, mode, call, meanwhile, want="OK"):
    """One of the file's group, without privileges, makes the call, which waits for a page; root does something `meanwhile`; the
    page is let go. The file's state then, which must be the medium's too."""
    f = os.open(path(name), os.O_RDWR | os.O_CREAT)
    os.write(f, pattern(SIZE))
    os.fchown(f, 0, GROUP)
    os.fchmod(f, mode)
    m = Map(f, SIZE)
    m.read(6 * PAGE, 1)
    pin = PinnedPage(m, 6 * PAGE)

    def body():
        os.setgroups([GROUP])
        os.setgid(GROUP)
        os.setuid(USER)
        refused(want, lambda: call(f), f"{name}: the call that waited")
    child = spawn(body)
    until(waiting, f"{name}: nobody waits")
    meanwhile(f)
    before = os.fstat(f)
    pin.release()
    reap(child, name)
    m.close()
    now = os.fstat(f)
    flags(f, 0)
    os.close(f)
    seen.append((name, now.st_mode, now.st_size))
    return before, now

def permissions(result):
    return oct(stat.S_IMODE(result[1].st_mode))

shrink = lambda f: os.ftruncate(f, PAGE)
punch = lambda f: fallocate(f, PUNCH_HOLE | KEEP_SIZE, 4 * PAGE, 4 * PAGE)
collapse = lambda f: fallocate(f, COLLAPSE_RANGE, 0, 4 * PAGE)
seen = []

# A chmod is not undone.
equal(permissions(while_waiting("taken", 0o4775, shrink, lambda f: os.fchmod(f, 0o600))), oct(0o600), "truncated, permissions taken away meanwhile")
equal(permissions(while_waiting("group", 0o6775, shrink, lambda f: os.fchmod(f, 0o2770))), oct(0o770), "truncated, set-user-id taken away meanwhile")
equal(permissions(while_waiting("kept", 0o6775, shrink, lambda f: None)), oct(0o775), "truncated, nothing done meanwhile")
# Set-id bits that come meanwhile go when the content changes, as they would have gone before.
for name, call in ("truncated", shrink), ("punched", punch), ("collapsed", collapse):
    equal(permissions(while_waiting(name, 0o664, call, lambda f: os.fchmod(f, 0o6775))), oct(0o775), f"{name}, set-id bits given meanwhile")
# The modification time is that of the change: who has read the file while the call waited sees that it is another one.
for name, call in ("truncated-time", shrink), ("punched-time", punch), ("collapsed-time", collapse):
    before, now = while_waiting(name, 0o664, call, lambda f: time.sleep(0.02))
    check(now.st_mtime_ns > before.st_mtime_ns and now.st_ctime_ns > before.st_ctime_ns, f"{name}: times of a call that waited: {before} {now}")
# A truncate that has become growth has growth's limits.
def limited(f):
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * PAGE, 2 * PAGE))
    os.ftruncate(f, 4 * PAGE)
def smaller(f):
    equal(os.system(f"mount -o remount,layout=defer {MNT}"), 0, "remount")
    os.ftruncate(f, PAGE)
    equal(os.system(f"mount -o remount,layout=wait {MNT}"), 0, "remount")
before, now = while_waiting("limit", 0o664, limited, smaller, "EFBIG")
equal(now.st_size, PAGE, "a truncate that would be growth beyond the limit")
before, now = while_waiting("no-limit", 0o664, limited, lambda f: None)
equal(now.st_size, 4 * PAGE, "shorter, beyond the limit")
# Flags that forbid the call.
for name, flag in ("immutable", IMMUTABLE), ("append-only", APPEND):
    for what, call in ("truncated", shrink), ("punched", punch), ("collapsed", collapse):
        before, now = while_waiting(f"{what}-{name}", 0o664, call, lambda f: flags(f, flag), "EPERM")
        equal((now.st_size, now.st_blocks), (SIZE, SIZE // 512), f"{what}, {name} meanwhile")

raise_errno(libc.umount2(MNT.encode(), 0))
mount_new(os.environ["DEV"], MNT, "dax=always")
for name, mode, size in seen:
    equal((oct(os.stat(path(name)).st_mode), os.stat(path(name)).st_size), (oct(mode), size), f"{name}: mode and size on the medium")
PY
proved "a truncate, punch or collapse that waited for a page does not undo a chmod, drops set-id bits that came meanwhile, keeps to limits and flags that hold then, and sets the times then"
