# Who must not wait (RWF_NOWAIT, io_uring) gets EAGAIN beside a held page and finds nothing changed.
# only: ochre
. "$(dirname "$0")/lib.sh"
mount_fs "$DEV" "$MNT" layout=defer
python3 - <<'PY'
from holders import *
WRITE, FALLOCATE, RWF_NOWAIT = 23, 17, 8
f = os.open(path("f"), os.O_RDWR | os.O_CREAT)
fallocate(f, 0, 0, 4 * MIB)
m = aligned_map(f, 4 * MIB)
data = pattern(4 * MIB)
m.write(0, data)
equal(huge_pages(m), 4 * MIB, "bytes in 2 MiB pages")
pin = PinnedPage(m, 3 * MIB)
end = 2 * MIB + 100 * PAGE
os.ftruncate(f, end)  # inside the held page, whose rest is pending now

def grow(flags):
    return lambda: os.pwritev(f, [b"n" * PAGE], 3 * MIB, flags)

def as_before(text):
    equal((os.fstat(f).st_size, os.pread(f, 4 * MIB, 0)), (end, data[:end]), text)

ring = IoUring()
source = Map(-1, PAGE, MAP_PRIVATE | MAP_ANONYMOUS)
source.write(0, b"u" * PAGE)

def by_ring(offset):
    ring.submit(WRITE, f, source.address, PAGE, offset, RWF_NOWAIT)
    got = ring.result()
    if got < 0:
        raise OSError(-got, "io_uring")
    return got

def without_waiting(call):
    """A call that must not wait may not change the file's times either; where they have just been, and within the same tick, it need not."""
    for _ in range(100):
        os.pwrite(f, data[:8], 0)
        try:
            return call()
        except BlockingIOError:
            pass
    raise OSError(errno.EAGAIN, "each time")

refused("EAGAIN", lambda: without_waiting(grow(os.RWF_NOWAIT)), "growth inside the held page")
as_before("after RWF_NOWAIT")
refused("EAGAIN", lambda: without_waiting(lambda: by_ring(3 * MIB)), "io_uring with RWF_NOWAIT")
as_before("after io_uring with RWF_NOWAIT")
# Neither minds a page that they do not need.
equal(without_waiting(lambda: os.pwritev(f, [b"e" * PAGE], PAGE, os.RWF_NOWAIT)), PAGE, "RWF_NOWAIT elsewhere")
equal(without_waiting(lambda: by_ring(2 * PAGE)), PAGE, "io_uring with RWF_NOWAIT elsewhere")
data = data[:PAGE] + b"e" * PAGE + b"u" * PAGE + data[3 * PAGE:]
as_before("elsewhere")
equal(pin.release(), pattern(4 * MIB)[3 * MIB:3 * MIB + PAGE], "the pipe's bytes")
PY
proved "RWF_NOWAIT and io_uring's RWF_NOWAIT get EAGAIN where a held page would make them wait, and only there"
