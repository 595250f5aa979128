# A call that waited for a held page looks again, and not only when it is woken: the page may have been faulted in again, and be held again.
# test-build
# only: ochre
# timeout: 240
. "$(dirname "$0")/lib.sh"
python3 - <<'PY'
from racing import *
WAIT = "dax=always,layout=wait"

def parts(huge):
    size = HUGE if huge else PAGE
    f = make("f")
    fallocate(f, 0, 0, 2 * HUGE)
    os.pwrite(f, b"old!" * (size // 2), 0)
    m = aligned_map(f, 2 * size)
    held = []
    user = Actor(pin=lambda: held.append(PinnedPage(m, size)), release=lambda: held.pop().release(), touch=lambda: m.read(size, 4),
                 unmap=m.close)
    m.read(size, 1)
    user.do("pin")
    return f, m, size, block_of(f, size), user

def mapped_again(removed, huge=False):
    """The holder faults the page in again, and lets go: the count does not fall to zero, and nobody wakes the truncate."""
    f, m, size, block, user = parts(huge)
    m.close()
    remover = Actor(cut=lambda: os.ftruncate(f, size))
    remover.start("cut").waits("a truncate of a held page", "ochre_wait_page_idle")
    equal(user.do("touch"), b"old!", "a fault while it waits")
    user.do("release")
    if removed:
        remover.waits("without an end of the sleep the truncate waits for the mapping (or the test is blind)", "ochre_wait_page_idle")
        user.do("unmap")
    remover.done()
    equal(os.fstat(f).st_blocks * 512 >= size, True, "blocks")
    equal(os.fstat(f).st_size, size, "size")

def mapped_again_huge(removed):
    mapped_again(removed, True)

removing(mapped_again, "wait-limit", options=WAIT)
removing(mapped_again_huge, "wait-limit", options=WAIT)

def held_again(removed, huge=False):
    """The truncate is woken; before it has its locks the page is faulted in, and held again."""
    f, m, size, block, user = parts(huge)
    remover = Actor(cut=lambda: os.ftruncate(f, size))
    arm("wait-over", remover.pid)
    remover.start("cut")
    wait_held("wait-over")
    user.do("release")
    user.do("pin")
    go("wait-over")
    if removed:
        remover.done()
        check(any("dax" in line for line in complaints()), f"no complaint of fs/dax.c about an entry deleted under its page: {complaints()}")
        next_owner(block)
        equal(user.do("release")[:4], b"vvvv", "without a new look the holder finds another file's bytes, or the test is blind")
        return
    remover.waits("a truncate of a page that is held again", "ochre_wait_page_idle")
    equal(user.do("release"), b"old!" * (PAGE // 4), "what the holder finds")
    remover.done()
    equal(os.fstat(f).st_size, size, "size")

def held_again_huge(removed):
    held_again(removed, True)

removing(held_again, "look-after-wait", options=WAIT)
removing(held_again_huge, "look-after-wait", options=WAIT)
PY
proved "a page that is faulted in or held again while a truncate waits (4 KiB, 2 MiB) is noticed; with an endless sleep it waits for the mapping, without a new look the holder finds another file's bytes"
