# A fault that has given the file a block and then fails: the block is zeroed, the file's, and not leaked; of what was there before nothing shows.
# test-build
# only: ochre
# timeout: 240
. "$(dirname "$0")/lib.sh"
python3 - <<'PY'
from racing import *

STALE = b"secret! "

def failed_fault(removed, huge=False, preallocated=False):
    size = HUGE if huge else PAGE
    # All that is going to be allocated has a deleted file's bytes.
    old = make("old")
    os.pwrite(old, STALE * (64 * MIB // len(STALE)), 0)
    os.ftruncate(old, 0)
    os.unlink(path("old"))
    os.close(old)
    small = [f"small{i}" for i in range(700)]  # more than a slot of 2 MiB has blocks: where small files go
    for name in small:
        os.close(make(name, data=STALE * (PAGE // len(STALE))))
    for name in small:
        os.unlink(path(name))
    base = os.statvfs(MNT).f_bfree
    f = make("f", 2 * HUGE)
    if preallocated:
        fallocate(f, 0, 0, 2 * HUGE)
    m = aligned_map(f, 2 * HUGE)
    user = Actor(store=lambda: m.write(100, b"mine"))
    failing("fault-after-allocation")
    if huge:
        user.start("store")
        equal(user.outcome()[:1], b"=", "the store, which falls back to small pages")
    else:
        small = Map(f, PAGE)  # no room for 2 MiB
        equal(signal_of(lambda: small.write(100, b"mine")), signal.SIGBUS, "the store")
        small.close()
    failing()
    block = block_of(f)
    check(block is not None, "the file has no block")
    data = os.pread(f, size, 0)
    equal(m.read(0, size), data, "the block by read and by a mapping")
    rest = data.replace(b"mine", bytes(4)) if huge else data
    if removed:
        check(STALE.strip() in rest, "not zeroed it shows the deleted file's bytes, or the test is blind")
    else:
        equal(rest, bytes(size), "the block")
        check(os.fstat(f).st_blocks >= size // 512, "the block is not counted")
        os.close(f)
        m.close()
        os.unlink(path("f"))
        user.end()
        poll(lambda: os.statvfs(MNT).f_bfree == base, lambda: f"free blocks: {os.statvfs(MNT).f_bfree}, were {base}")

def failed_fault_in_preallocated_blocks(removed):
    failed_fault(removed, preallocated=True)

def failed_huge_fault(removed):
    failed_fault(removed, huge=True)

removing(failed_fault, "zero")
removing(failed_fault_in_preallocated_blocks, "zero")
removing(failed_huge_fault, "zero")
PY
proved "a fault that fails after it allocated (hole, preallocated, 2 MiB) leaves a zeroed block that the file owns; not zeroed, a deleted file's bytes show"
