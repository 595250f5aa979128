# The same hole gets its block once: two faults at once, a fault beside write(2) at each step of it, with zero pages mapped (4 KiB, 2 MiB).
# test-build
# only: ochre
# timeout: 300
. "$(dirname "$0")/lib.sh"
python3 - <<'PY'
from racing import *

def blocks(f):
    return os.fstat(f).st_blocks // 8

def fault_during_write(removed, step, preallocated, reader):
    """A store comes while write(2) is at `step` of giving the same page its block; someone has the zero page mapped."""
    f = make("f", 4 * PAGE)
    if preallocated:
        fallocate(f, 0, 0, 4 * PAGE)
    m, m2 = Map(f, 4 * PAGE), Map(f, 4 * PAGE)
    if reader:
        equal((m.read(0, 4), m2.read(0, 4)), (bytes(4), bytes(4)), "the hole")
    writer = Actor(write=lambda: os.pwrite(f, b"W" * 100, 0))
    user = Actor(store=lambda: m.write(2048, b"mine"))
    arm(step, writer.pid)
    writer.start("write")
    wait_held(step)
    user.start("store")
    if not removed:
        user.waits("a store beside a write")
        go(step)
        writer.done()
        user.done()
        want = b"W" * 100 + bytes(1948) + b"mine" + bytes(2044)
        equal(os.pread(f, PAGE, 0), want, f"the page, by read, store while the write was {step}")
        equal((m.read(0, PAGE), m2.read(0, PAGE)), (want, want), "the page, by both mappings")
        equal(blocks(f), 4 if preallocated else 1, "blocks of the file")
        return
    user.done()
    go(step)
    wrote = writer.outcome()
    data = os.pread(f, PAGE, 0)
    whole = wrote[:1] == b"=" and data[:100] == b"W" * 100 and data[2048:2052] == b"mine" and m2.read(0, PAGE) == data
    check(not whole, f"without claims nothing was lost: the test is blind (the write said {wrote}, {blocks(f)} blocks)")
    print(f"without claims, {step}, preallocated {preallocated}: write {wrote}, page {data[:4]} {data[2048:2052]}, blocks {blocks(f)}")

for step in ("write-reserved", "write-copied"):
    for preallocated in (False, True):
        def scenario(removed):
            fault_during_write(removed, step, preallocated, reader=step == "write-copied")
        # Before the copy, a fault in preallocated blocks does no harm: it zeroes what is not yet written.
        removing(scenario, *(["claims"] if step == "write-copied" or not preallocated else []))

def stale_zero_page(removed, huge=False):
    """write(2) gives blocks to a hole whose zero page is mapped."""
    size = 2 * HUGE if huge else 4 * PAGE
    f = make("f", size)
    m = aligned_map(f, size)
    with Faults() as faults:
        equal(m.read(5, 4), bytes(4), "the hole")
    if huge:
        equal(faults.count("dax_pmd_load_hole"), 1, "2 MiB zero pages mapped")
    os.pwrite(f, b"WWWW", 5)
    equal(m.read(5, 4), bytes(4) if removed else b"WWWW", "the mapping after the write (without invalidation: stale, or the test is blind)")
    equal(os.pread(f, 4, 5), b"WWWW", "the file after the write")

def stale_huge_zero_page(removed):
    stale_zero_page(removed, huge=True)

removing(stale_zero_page, "invalidate")
removing(stale_huge_zero_page, "invalidate")

def two_faults(removed, huge=False):
    """Two processes store to the same page of a hole, one is held with its block not mapped yet; a reader had the zero page."""
    size = 2 * HUGE if huge else 4 * PAGE
    f = make("f", size)
    m, m2 = aligned_map(f, size), aligned_map(f, size)
    small = Map(f, 4 * PAGE)  # where no 2 MiB page fits
    if not huge:
        equal(m2.read(0, 4), bytes(4), "the hole")
    first = Actor(store=lambda: m.write(0, b"first"))
    second = Actor(store=lambda: (small if huge else m2).write(64, b"second"))
    reader = Actor(read=lambda: m2.read(0, 128))
    arm("fault-allocated", first.pid)
    first.start("store")
    wait_held("fault-allocated")
    second.start("store").waits("the second store")
    go("fault-allocated")
    first.done()
    second.done()
    want = b"first" + bytes(59) + b"second" + bytes(58)
    for got in (reader.do("read"), m.read(0, 128), m2.read(0, 128), small.read(0, 128), os.pread(f, 128, 0)):
        equal(got, want, "the page, as each sees it")
    equal(blocks(f), 512 if huge else 1, "blocks of the file")

def two_huge_faults(removed):
    two_faults(removed, huge=True)

# Here the claims are the second protection: the lock of the entry in fs/dax.c suffices.
run(two_faults)
run(two_huge_faults)
if SLOW == 1:
    run(two_faults, "claims")
    run(two_huge_faults, "claims")

def wait_inside(removed):
    """A fault that meets a claim inside fs/dax.c: where it waits there, it has the lock that the writer needs."""
    f = make("f", 4 * PAGE)
    m = Map(f, 4 * PAGE)
    user = Actor(store=lambda: m.write(2048, b"mine"))
    writer = Actor(write=lambda: os.pwrite(f, b"W" * 100, 0))
    arm("fault-checked", user.pid)
    user.start("store")
    wait_held("fault-checked")
    arm("write-copied", writer.pid)
    writer.start("write")
    wait_held("write-copied")
    go("fault-checked")
    user.waits("a fault that meets a claim", "dax_iomap_pte_fault" if removed else "")
    if not removed:
        check("dax_iomap" not in user.stack(), f"it waits inside fs/dax.c: {user.stack()}")
    go("write-copied")
    if removed:
        writer.waits("the writer", "invalidate_inode_pages2_range")
        user.waits("and the fault", "dax_iomap_pte_fault")
        os.kill(user.pid, signal.SIGKILL)  # ends it
        writer.done()
        return
    writer.done()
    user.done()
    equal(os.pread(f, 2052, 0), b"W" * 100 + bytes(1948) + b"mine", "the page")

removing(wait_inside, "wait-outside")
PY
proved "a hole gets one block, whoever comes when, and all see it; without claims a store or a write is lost, without invalidation the zero page stays, a wait inside fs/dax.c is a deadlock"
