# A fault beside a truncate: never a page past the end. Without its lock it maps, and writes, a block that has been freed.
# test-build
# only: ochre
# timeout: 240
. "$(dirname "$0")/lib.sh"
python3 - <<'PY'
from racing import *

def parts(huge=False):
    f = make("f")
    if huge:
        fallocate(f, 0, 0, 2 * HUGE)
    size = HUGE if huge else PAGE
    os.pwrite(f, b"old!" * (size // 2), 0)
    m = aligned_map(f, 2 * HUGE)
    user = Actor(touch=lambda: m.write(size + 8, b"mine"), probe=lambda: b"yes" if m.probe(size) else b"no",
                 poke=lambda: m.write(size + 64, b"EVIL"))
    return f, size, block_of(f, size), user, Actor(cut=lambda: os.ftruncate(f, size))

def fault_during_truncate(removed, huge=False):
    """The truncate has looked at all pages; a fault comes while the size is still the old one."""
    f, size, block, user, remover = parts(huge)
    arm("layout-broken", remover.pid)
    remover.start("cut")
    wait_held("layout-broken")
    user.start("touch")
    if not removed:
        user.waits("a fault during a truncate")
        go("layout-broken")
        remover.done()
        equal(user.outcome(), b"!killed", "a store past the new end")
        equal(os.fstat(f).st_size, size, "the size")
        return
    user.done()  # the doomed block is mapped
    go("layout-broken")
    remover.done()
    past_the_end(f, size, block, user)

def huge_fault_during_truncate(removed):
    fault_during_truncate(removed, huge=True)

def past_the_end(f, size, block, user):
    equal(os.fstat(f).st_size, size, "the size")
    equal(user.do("probe"), b"yes", "a page past the end is mapped, or the test is blind")
    user.do("poke")
    with open(DEV, "rb") as device:  # stores go to the block, which the file no longer has
        device.seek(block + 64)
        equal(device.read(4), b"EVIL", "the freed block")
    equal(os.fstat(f).st_blocks, size // 512, "blocks of the file")

def truncate_during_fault(removed):
    """The fault has seen the old size and looked up its block; the truncate comes before the page is mapped."""
    f, size, block, user, remover = parts()
    arm("fault-looked-up", user.pid)
    user.start("touch")
    wait_held("fault-looked-up")
    remover.start("cut")
    remover.waits("a truncate during a fault", "wait_entry_unlocked" if removed else "")
    go("fault-looked-up")
    if not removed:
        # The store is repeated after the fault: it is done before the page is unmapped, or comes too late.
        alive = user.outcome() != b"!killed"
        remover.done()
        if alive:
            equal(user.do("probe"), b"no", "a page past the end is mapped")
        return
    # fs/dax.c held the truncate up, then deletes the entry, with the page mapped; nothing unmaps it after the size was set.
    user.done()
    remover.done()
    past_the_end(f, size, block, user)

# The second unmapping, after the size is set, is there for private copies, and would hide the harm.
removing(fault_during_truncate, "fault-lock", "unmap-copies")
removing(huge_fault_during_truncate, "fault-lock", "unmap-copies")
removing(truncate_during_fault, "fault-lock", "unmap-copies")
PY
proved "a fault during a truncate waits and gets SIGBUS (4 KiB, 2 MiB), one before it is unmapped; without the lock a page past the end is mapped, whose block is free"
