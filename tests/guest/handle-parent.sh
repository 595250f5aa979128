# A directory is opened by its handle while it moves to another one and its old one is removed, and that one's number is used again: the directory or ESTALE, and never damage.
# test-build
# only: ochre
# timeout: 120
. "$(dirname "$0")/lib.sh"
python3 - <<'PY'
from racing import *

def opening(point):
    """`P/d` by its handle, nothing of it being in memory, by a process that stops at the point: it, and the number of P."""
    for name in ("P", "P/d", "Q"):
        os.mkdir(path(name))
    handle, parent = name_to_handle(path("P/d")), os.stat(path("P")).st_ino
    raise_errno(libc.umount2(MNT.encode(), 0))
    mount_new(DEV, MNT, "dax=always")
    os.sched_setaffinity(0, {0})

    def open_it():
        at = os.open(MNT, os.O_RDONLY)
        f = open_handle(at, handle)
        name = os.readlink(f"/proc/self/fd/{f}")
        os.close(f)
        os.close(at)
        return name.encode()
    opener = Actor(open=open_it)
    arm(point)
    opener.start("open")
    wait_held(point)
    return opener, parent

def move_away():
    os.rename(path("P/d"), path("Q/d"))
    os.rmdir(path("P"))

def used_again(number, make_one):
    """Makes files until one gets the number."""
    for i in range(4096):
        if make_one(f"new{i}") == number:
            return i
    fail(f"the number {number} was not used again")

def make_file(name):
    f = make(name)
    try:
        return os.fstat(f).st_ino
    finally:
        os.close(f)

def make_directory(name):
    os.mkdir(path(name))
    return os.stat(path(name)).st_ino

def ended(opener):
    got = opener.outcome()
    print(got.decode())
    check(got in (b"=" + path("Q/d").encode(), b"!ESTALE"), f"the handle of a directory that moved away: {got}")
    equal(errno_name(lambda: os.close(make("after"))), "OK", "making a file afterwards")

def moved(_):
    """The old parent is gone when it is looked for."""
    opener, _ = opening("parent-read")
    move_away()
    go("parent-read")
    ended(opener)

def moved_and_used_again(_, make_one=make_file):
    """... and its number is another's."""
    opener, number = opening("parent-read")
    move_away()
    used_again(number, make_one)
    go("parent-read")
    ended(opener)

def moved_and_used_again_by_a_directory(_):
    moved_and_used_again(_, make_directory)

def moved_and_used_again_by_its_child(_):
    """... of one that is within d: whoever makes it has d locked."""
    moved_and_used_again(_, lambda name: make_file("Q/d/" + name))

def removed(_):
    """The directory itself is gone as well; nothing but the handle's user has it."""
    opener, _ = opening("parent-read")
    os.rmdir(path("P/d"))
    os.rmdir(path("P"))
    go("parent-read")
    equal(opener.outcome(), b"!ESTALE", "the handle of a directory that was removed")
    equal(errno_name(lambda: os.close(make("after"))), "OK", "making a file afterwards")

def taken_before_it_is_read(_, where=""):
    """The old parent's number is locked in the cache, its record not yet read, when a file gets it."""
    opener, number = opening("parent-read")
    move_away()
    arm("parent-new")
    go("parent-read")
    wait_held("parent-new")
    maker = Actor(make=lambda: str(used_again(number, lambda name: make_file(where + name))).encode())
    maker.start("make").waits("who makes a file with the number that is being looked for", "insert_inode_locked")
    go("parent-new")
    ended(opener)
    last = int(maker.done())
    equal(os.stat(path(f"{where}new{last}")).st_ino, number, "the number of the new file")

def taken_by_its_child(_):
    taken_before_it_is_read(_, "Q/d/")

for scenario in (moved, moved_and_used_again, moved_and_used_again_by_a_directory, moved_and_used_again_by_its_child, removed,
                 taken_before_it_is_read, taken_by_its_child):
    print(scenario.__name__)
    sys.stdout.flush()
    run(scenario)
PY
proved "a directory opened by its handle while it moves away and its parent goes, whose number is used again (before and while it is looked for): found where it is now, or ESTALE; the filesystem stays writable"
