# Pages that a private mapping has copied get SIGBUS after a truncate, those inside the file survive. Not unmapped, they outlive the truncate.
# test-build
# only: ochre
# timeout: 240
. "$(dirname "$0")/lib.sh"
python3 - <<'PY'
from racing import *

def copies(removed, pin=False):
    f = make("f", data=pattern(8 * PAGE))
    p = Map(f, 8 * PAGE, MAP_PRIVATE)
    m = Map(f, 8 * PAGE)
    for page in (1, 2, 5, 7):
        p.write(page * PAGE, b"mine%d" % page)
    m.read(0, 8 * PAGE)
    held = PinnedPage(m, 6 * PAGE) if pin else None
    os.ftruncate(f, 2 * PAGE + 100)
    equal([p.read(page * PAGE, 5) for page in (1, 2)], [b"mine1", b"mine2"], "copies inside the file")
    equal([m.probe(page * PAGE) for page in range(8)], [True] * 3 + [False] * 5, "pages of the shared mapping")
    now = [p.probe(page * PAGE) for page in (3, 5, 7)]
    if removed:
        equal(now, [False, True, True], "copies past the end are still there, or the test is blind")
        equal(p.read(5 * PAGE, 5), b"mine5", "a copy past the end")
    else:
        equal(now, [False] * 3, "copies past the end")
        equal(signal_of(lambda: p.read(5 * PAGE, 1)), signal.SIGBUS, "reading a copy past the end")
        os.ftruncate(f, 8 * PAGE)
        equal(p.read(5 * PAGE, 5), bytes(5), "grown again: a new page, not the old copy")
        equal(p.read(2 * PAGE, 5), b"mine2", "grown again: a copy that was always inside")
    if held:
        equal(len(held.release()), PAGE, "what the pipe held")

def copies_beside_a_held_page(removed):
    copies(removed, pin=True)

removing(copies, "unmap-copies")
removing(copies_beside_a_held_page, "unmap-copies")

def copy_during_truncate(removed):
    """The private copy is made while the truncate is on its way: of a block that goes."""
    f = make("f", data=pattern(4 * PAGE))
    p = Map(f, 4 * PAGE, MAP_PRIVATE)
    user = Actor(touch=lambda: p.write(3 * PAGE, b"mine"), probe=lambda: b"yes" if p.probe(3 * PAGE) else b"no")
    remover = Actor(cut=lambda: os.ftruncate(f, PAGE))
    arm("layout-broken", remover.pid)
    remover.start("cut")
    wait_held("layout-broken")
    user.start("touch")
    if not removed:
        user.waits("a private fault during a truncate")
        go("layout-broken")
        remover.done()
        equal(user.outcome(), b"!killed", "a private store past the new end")
        return
    user.done()
    go("layout-broken")
    remover.done()
    equal(user.do("probe"), b"yes", "the copy past the end, or the test is blind")

removing(copy_during_truncate, "fault-lock", "unmap-copies")
PY
proved "copies past the new end are SIGBUS, those before it survive, with held pages too and with the copy made meanwhile; left mapped they outlive the truncate"
