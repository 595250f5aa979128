# A 2 MiB page across the edge of what goes: it goes as a whole, what was stored to the part that stays is written back before; an error of a write's end comes through.
# test-build
# only: ochre
# timeout: 240
. "$(dirname "$0")/lib.sh"
python3 - <<'PY'
from racing import *

def huge(name):
    f = make(name)
    fallocate(f, 0, 0, 2 * HUGE)
    m = aligned_map(f, 2 * HUGE)
    m.write(0, b"kept" * (2 * HUGE // 4))
    equal(huge_pages(m), 2 * HUGE, "2 MiB pages mapped")
    return f, m

def pending():
    with open(f"/sys/kernel/debug/ochre-{os.path.basename(DEV)}/layout") as state:
        return next(line for line in state if line.startswith("pending_inodes"))

def straddling(removed):
    """The half that stays is mapped by a second mapping, which does not reach what goes: who unmaps only that takes it for held."""
    f, m = huge("f")
    os.ftruncate(f, HUGE)
    half = Map(f, HUGE // 2)
    equal(half.read(0, 4), b"kept", "the half that stays")
    os.ftruncate(f, HUGE // 2)
    equal(pending(), f"pending_inodes {int(removed)}\n", "the truncate left something behind (without rounding out, or the test is blind)")
    equal(half.read(0, 4) + m.read(HUGE // 2 - 4, 4), b"keptkept", "what stays")
    if not removed:
        equal(os.fstat(f).st_blocks, HUGE // 2 // 512, "blocks of the file")

removing(straddling, "round-out")

def dirty_edge(removed):
    """fsync after the truncate finds no dirty entry any more: it must have been written back."""
    f, m = huge("f")
    with Faults() as trace:
        os.ftruncate(f, HUGE // 2)
        os.fsync(f)
    written = trace.count("dax_writeback_one")
    if removed:
        equal(written, 0, "pages written back (or the test is blind)")
    else:
        check(written > 0, "what was stored to the part that stays was never written back")

removing(dirty_edge, "keep-edges")

def failed_end(removed):
    """Publishing fails after the bytes were copied: fs/iomap forgets the error, since bytes moved."""
    f = make("f", PAGE)
    failing("publish")
    result = errno_name(lambda: equal(os.pwrite(f, b"W" * PAGE, 0), PAGE, "bytes written"))
    failing()
    if removed:
        equal((result, os.pread(f, 4, 0)), ("OK", bytes(4)), "a write that said it was done (or the test is blind)")
    else:
        equal((result, os.pread(f, 4, 0), os.fstat(f).st_blocks), ("EIO", bytes(4), 0), "a write that could not be published")
        os.pwrite(f, b"again", 0)
        equal(os.pread(f, 5, 0), b"again", "the next write")

removing(failed_end, "carry-errors")
PY
proved "a 2 MiB page across the edge goes as a whole and its dirty half is written back, a write whose end failed says so; without: a page that seems held, stores never flushed, a lost write"
