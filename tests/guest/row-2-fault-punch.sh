# A fault beside a punch, where no size is a fence: it waits until the block is gone, and sees the hole. Without its lock it maps a freed block.
# test-build
# only: ochre
# timeout: 180
. "$(dirname "$0")/lib.sh"
python3 - <<'PY'
from racing import *

def fault_during_punch(removed, write=False, huge=False):
    """The punch has looked at all pages; a fault comes before the blocks go."""
    size = HUGE if huge else PAGE
    f = make("f", 2 * HUGE)
    if huge:
        fallocate(f, 0, 0, 2 * HUGE)
    os.pwrite(f, b"old!" * (size // 4), 0)
    block = block_of(f)
    m = aligned_map(f, 2 * HUGE)
    user = Actor(touch=lambda: m.write(8, b"mine") if write else m.read(0, 4), poke=lambda: m.write(64, b"EVIL"), peek=lambda: m.read(0, 4))
    remover = Actor(punch=lambda: fallocate(f, PUNCH_HOLE | KEEP_SIZE, 0, size))
    arm("layout-broken")
    remover.start("punch")
    wait_held("layout-broken")
    user.start("touch")
    if not removed:
        user.waits("a fault during a punch")
        go("layout-broken")
        remover.done()
        user.done()
        equal(m.read(0, 4), bytes(4), "the page after the punch")
        check(write or not os.pread(f, 4096, 0).strip(b"\0"), "the hole is not empty")
        return
    user.done()  # the doomed block is mapped
    go("layout-broken")
    remover.done()
    victim, at = next_owner(block)  # (not f: FIEMAP writes back, which makes its page read-only)
    if write:
        user.do("poke")
        equal(os.pread(victim, 4, at + 64), b"EVIL", "without its lock the fault does harm, or the test is blind: the other file")
    else:
        equal(user.do("peek"), b"vvvv", "without its lock the fault does harm, or the test is blind: what is mapped")

def write_during_punch(removed):
    fault_during_punch(removed, write=True)

def huge_fault_during_punch(removed):
    fault_during_punch(removed, huge=True)

removing(fault_during_punch, "fault-lock")
removing(write_during_punch, "fault-lock")
removing(huge_fault_during_punch, "fault-lock")

def punch_during_fault(removed):
    """The other way round: the fault has looked up its block; the punch comes before the page is mapped."""
    f = make("f", 4 * PAGE, b"old!" * 4096)
    m = Map(f, 4 * PAGE)
    user = Actor(touch=lambda: m.read(0, 4), peek=lambda: m.read(0, 4))
    remover = Actor(punch=lambda: fallocate(f, PUNCH_HOLE | KEEP_SIZE, 0, PAGE))
    arm("fault-looked-up", user.pid)
    user.start("touch")
    wait_held("fault-looked-up")
    remover.start("punch")
    if not removed:
        remover.waits("a punch during a fault")
        go("fault-looked-up")
        user.done()
        remover.done()
        equal((user.do("peek") or bytes(4), m.read(0, 4)), (bytes(4), bytes(4)), "the page after the punch")
        return
    # fs/dax.c makes the punch wait for the lock of the entry; then it is told to delete it, with the page mapped.
    remover.waits("a punch without the lock", "wait_entry_unlocked")
    go("fault-looked-up")
    user.done()
    remover.done()
    check(any("dax" in line for line in complaints()), f"no complaint of fs/dax.c about an entry deleted under its page: {complaints()}")

removing(punch_during_fault, "fault-lock")
PY
proved "a fault during a punch waits and sees the hole, and the other way round (4 KiB read and write, 2 MiB); without its lock it writes into another file"
