# A fault beside collapse, insert and zero range: it waits, and sees what is at its place then. Without its lock it maps the block of another place, or of nobody.
# test-build
# only: ochre
# timeout: 300
. "$(dirname "$0")/lib.sh"
python3 - <<'PY'
from racing import *

def pages(unit, letters):
    """A file whose units (4 KiB or 2 MiB) are full of one letter each, an Actor that touches unit `at`, and one that moves."""
    f = make("f")
    fallocate(f, 0, 0, len(letters) * unit)
    os.pwrite(f, b"".join(letter.encode() * unit for letter in letters), 0)
    return f, aligned_map(f, len(letters) * unit)

def toucher(m, at):
    """By write, so that the page stays writable."""
    def touch():
        m.write(at + 8, b"mine")
        return m.read(at, 4)
    return touch

def begin(user, remover):
    """The mover has unmapped all, and nobody holds a page; a fault comes before the blocks move."""
    arm("layout-broken", remover.pid)
    remover.start("move")
    wait_held("layout-broken")
    user.start("touch")

def waited(user, remover):
    user.waits("a fault while blocks move")
    go("layout-broken")
    remover.done()
    return user.done()

def collapse(removed, unit=PAGE, at=0):
    """ABCD becomes BCD; the fault is on A, whose block is freed, or on B, which moves to where A was."""
    f, m = pages(unit, "ABCD")
    block = block_of(f)
    user = Actor(touch=toucher(m, at * unit), poke=lambda: m.write(at * unit + 64, b"EVIL"))
    remover = Actor(move=lambda: fallocate(f, COLLAPSE_RANGE, 0, unit))
    begin(user, remover)
    if not removed:
        equal(waited(user, remover), b"BC"[at:at + 1] * 4, "what the fault sees")
        user.do("poke")
        equal(os.pread(f, 4, at * unit + 64), b"EVIL", "a store after it")
        return
    equal(user.done(), b"AB"[at:at + 1] * 4, "without its lock the fault sees the old page, or the test is blind")
    go("layout-broken")
    remover.done()
    equal(os.pread(f, 4, at * unit), b"BC"[at:at + 1] * 4, "the file")
    if at:
        user.do("poke")
        equal(os.pread(f, 4, 64), b"EVIL", "the store is in the wrong place, or the test is blind")
    else:
        victim, there = next_owner(block)
        user.do("poke")
        equal(os.pread(victim, 4, there + 64), b"EVIL", "the store is in another file, or the test is blind")

def collapse_moved(removed):
    collapse(removed, at=1)

def collapse_huge(removed):
    collapse(removed, unit=HUGE)

def collapse_huge_moved(removed):
    collapse(removed, unit=HUGE, at=1)

def insert(removed, unit=PAGE):
    """AB becomes .AB; the fault is on A, where the hole comes."""
    f, m = pages(unit, "AB")
    user = Actor(touch=toucher(m, 0), poke=lambda: m.write(64, b"EVIL"))
    remover = Actor(move=lambda: fallocate(f, INSERT_RANGE, 0, unit))
    begin(user, remover)
    seen = user.done() if removed else waited(user, remover)
    go("layout-broken")
    if removed:
        remover.done()
    equal(seen, b"AAAA" if removed else bytes(4), "what the fault sees")
    user.do("poke")
    got = os.pread(f, 4, 64), os.pread(f, 4, unit + 64)
    equal(got, (bytes(4), b"EVIL") if removed else (b"EVIL", b"AAAA"), "the store, at its place and behind the hole (or the test is blind)")

def insert_huge(removed):
    insert(removed, HUGE)

def zero(removed, unit=PAGE):
    """The blocks become unwritten; a page that is mapped then shows what was zeroed, and takes stores that no read finds."""
    f, m = pages(unit, "AB")
    user = Actor(touch=toucher(m, 0), poke=lambda: m.write(64, b"mine"))
    remover = Actor(move=lambda: fallocate(f, ZERO_RANGE, 0, unit))
    begin(user, remover)
    seen = user.done() if removed else waited(user, remover)
    go("layout-broken")
    if removed:
        remover.done()
    equal(seen, b"AAAA" if removed else bytes(4), "what the fault sees")
    user.do("poke")
    equal(os.pread(f, 4, 64), bytes(4) if removed else b"mine", "the store, by read (without its lock lost, or the test is blind)")

def zero_huge(removed):
    zero(removed, HUGE)

# The second unmapping, after the blocks have moved, is there for private copies, and would hide the harm.
for scenario in (collapse, collapse_moved, collapse_huge, collapse_huge_moved, insert, insert_huge):
    removing(scenario, "fault-lock", "unmap-copies")
removing(zero, "fault-lock")
removing(zero_huge, "fault-lock")

def move_during_fault(removed, mode=COLLAPSE_RANGE):
    """The other way round: the fault has looked up its block; the call comes before the page is mapped."""
    f, m = pages(PAGE, "ABCD")
    user = Actor(touch=lambda: m.read(PAGE, 4), peek=lambda: m.read(PAGE, 4))
    remover = Actor(move=lambda: fallocate(f, mode, 0, PAGE))
    arm("fault-looked-up", user.pid)
    user.start("touch")
    wait_held("fault-looked-up")
    remover.start("move")
    remover.waits("a call during a fault", "wait_entry_unlocked" if removed else "")
    go("fault-looked-up")
    user.done()
    remover.done()
    want = b"C" if mode == COLLAPSE_RANGE else b"A"
    equal(os.pread(f, 1, PAGE), want, "the file")
    if removed:
        equal(user.do("peek")[:1], b"B", "without the lock the old page stays mapped, or the test is blind")
        check(any("dax" in line for line in complaints()), f"no complaint of fs/dax.c about an entry deleted under its page: {complaints()}")
    else:
        equal((user.do("peek")[:1], m.read(PAGE, 1)), (want, want), "the page, as mapped")

def insert_during_fault(removed):
    move_during_fault(removed, INSERT_RANGE)

removing(move_during_fault, "fault-lock", "unmap-copies")
removing(insert_during_fault, "fault-lock", "unmap-copies")
PY
proved "a fault during collapse, insert and zero range waits and sees its place, and the other way round (4 KiB, 2 MiB); without its lock stores go into another file, another place, or are lost"
