# Conditions of moving a held page out of the way of a punch: counted as shared meanwhile, or fs/dax.c takes it apart; not over the edge of the hole, or bytes go that nobody wanted to.
# test-build
# only: ochre
# timeout: 180
. "$(dirname "$0")/lib.sh"
python3 - <<'PY'
from racing import *

def parts(size, held_at=0):
    f = make("f")
    fallocate(f, 0, 0, 2 * HUGE)
    os.pwrite(f, b"held" * (2 * HUGE // 4), 0)
    m = aligned_map(f, 2 * size)
    m.write(0, b"held")
    pin = PinnedPage(m, held_at)
    return f, m, pin

def shared(removed, huge=False):
    size = HUGE if huge else PAGE
    f, m, pin = parts(size)
    fallocate(f, PUNCH_HOLE | KEEP_SIZE, 0, size)
    equal((os.pread(f, 4, 0), m.read(0, 4)), (bytes(4), bytes(4)), "the hole")
    if removed:
        check(any("fs/dax.c" in line for line in complaints()), f"no complaint of fs/dax.c about a folio that is taken apart under its holder: {complaints()}")
    equal(pin.release(), b"held" * (PAGE // 4), "what the holder finds")

def shared_huge(removed):
    shared(removed, huge=True)

removing(shared, "share-while-moved")
removing(shared_huge, "share-while-moved")

def over_the_edge(removed):
    """The hole ends in the middle of a held 2 MiB page: of that the part is zeroed in place."""
    f, m, pin = parts(HUGE)
    fallocate(f, PUNCH_HOLE | KEEP_SIZE, 0, HUGE // 2)
    equal(os.pread(f, 4, 0), bytes(4), "in the hole")
    kept = os.pread(f, HUGE // 2, HUGE // 2)
    if removed:
        equal(kept, bytes(HUGE // 2), "moved as a whole it takes the other half along, or the test is blind")
    else:
        equal(kept, b"held" * (HUGE // 8), "beside the hole")
    pin.release()

removing(over_the_edge, "park-inside")
PY
proved "a held page moves in one piece (4 KiB, 2 MiB), and not if it reaches over the edge of the hole; not counted as shared it is taken apart, moved across the edge it takes other bytes along"
