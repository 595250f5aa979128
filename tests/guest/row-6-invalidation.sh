# The removal of stale zero pages at the end of a write, beside faults: none stays, and no entry goes from under a page that is in use.
# test-build
# only: ochre
# timeout: 240
. "$(dirname "$0")/lib.sh"
python3 - <<'PY'
from racing import *

def direct_write(removed):
    """An O_DIRECT write into a hole; the reader comes back after the block is published, before the zero page goes."""
    f = make("f", 4 * PAGE)
    d = os.open(path("f"), os.O_RDWR | os.O_DIRECT)
    m = Map(f, 4 * PAGE)
    equal(m.read(0, 4), bytes(4), "the hole")
    reader = Actor(read=lambda: m.read(0, 4))
    reader.do("read")
    buffer = Map(-1, PAGE, MAP_PRIVATE | MAP_ANONYMOUS)
    buffer.write(0, b"W" * PAGE)
    libc.pwrite.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long]
    writer = Actor(write=lambda: equal(libc.pwrite(d, buffer.address, PAGE, 0), PAGE, "O_DIRECT write"))
    arm("write-published", writer.pid)
    writer.start("write")
    wait_held("write-published")
    check(reader.do("read") in (bytes(4), b"WWWW"), "a reader during the write")
    go("write-published")
    writer.done()
    want = bytes(4) if removed else b"WWWW"
    equal((reader.do("read"), m.read(0, 4)), (want, want), "readers after the write (without invalidation: stale, or the test is blind)")

removing(direct_write, "invalidate")

def harm(f, block, user, m):
    """The page was entered before the invalidation, and somebody holds it: is that forgotten?"""
    fallocate(f, PUNCH_HOLE | KEEP_SIZE, 0, PAGE)
    next_owner(block)
    got = user.do("release")
    equal(got[:4], b"vvvv", "without the protection the holder finds another file's bytes, or the test is blind")

def pinner(m):
    held = []
    return Actor(read=lambda: m.read(0, 4), pin=lambda: held.append(PinnedPage(m, 0)), release=lambda: held.pop().release())

def fault_that_looked_before(removed):
    """A read fault saw no claim; then the write claims, copies and publishes; then the fault looks up the block."""
    f = make("f", 4 * PAGE)
    m = Map(f, 4 * PAGE)
    user = pinner(m)
    writer = Actor(write=lambda: os.pwrite(f, b"W" * PAGE, 0))
    arm("fault-checked", user.pid)
    user.start("pin")
    wait_held("fault-checked")
    arm("write-published", writer.pid)
    writer.start("write")
    wait_held("write-published")
    go("fault-checked")
    if not removed:
        user.waits("a fault that met a block just published")
        go("write-published")
        writer.done()
        user.done()
        block = block_of(f)
        fallocate(f, PUNCH_HOLE | KEEP_SIZE, 0, PAGE)  # the page is held: it is put aside
        next_owner(block + PAGE)
        equal(user.do("release"), b"W" * PAGE, "what the holder finds")
        return
    user.done()
    go("write-published")
    writer.done()
    block = block_of(f)  # (while the write has the file, FIEMAP would wait)
    harm(f, block, user, m)

removing(fault_that_looked_before, "look-again")

def released_too_early(removed):
    """A fault comes between publication and invalidation. The claim still holds it off; woken before, it would lose its entry."""
    f = make("f", 4 * PAGE)
    m = Map(f, 4 * PAGE)
    user = pinner(m)
    writer = Actor(write=lambda: os.pwrite(f, b"W" * PAGE, 0))
    arm("write-published", writer.pid)
    writer.start("write")
    wait_held("write-published")
    user.start("pin")
    if not removed:
        user.waits("a fault before stale entries are gone")
        go("write-published")
        writer.done()
        user.done()
        equal(user.do("release"), b"W" * PAGE, "what the holder finds")
        return
    user.done()
    go("write-published")
    writer.done()
    block = block_of(f)  # (while the write has the file, FIEMAP would wait)
    harm(f, block, user, m)

removing(released_too_early, "release-last")
PY
proved "no stale zero page after a write, and a fault beside it never loses its entry; looking once, or waking too early, lets a holder see another file"
