# An inode that is not to be cached is kept all the same while its pages are held: iput evicts it whatever drop_inode says, unless the mark is taken off, and then waits in a sleep that no signal ends.
# test-build
# only: ochre
# timeout: 180
. "$(dirname "$0")/lib.sh"
python3 - <<'PY'
from racing import *

def last_reference(removed, unlink=True, huge=False):
    """A page is held, the file is closed and has no name any more, or none in the cache."""
    def drop():
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("2")
    user = Actor(go=lambda: os.unlink(path("f")) if unlink else drop())
    failing("dontcache")
    f = make("f")
    failing()
    fallocate(f, 0, 0, 2 * HUGE)
    size = HUGE if huge else PAGE
    os.pwrite(f, b"held" * (size // 4), 0)
    m = aligned_map(f, size)
    m.read(0, 1)
    pin = PinnedPage(m, 0)
    block = block_of(f)
    m.close()
    base = os.statvfs(MNT).f_bfree
    os.close(f)
    user.start("go")
    if removed:
        user.waits("with the mark it is evicted, and that waits (or the test is blind)", "evict")
        os.kill(user.pid, signal.SIGKILL)
        user.waits("a fatal signal does not end it", "evict")
        equal(pin.release(), b"held" * (PAGE // 4), "what the holder finds")
        poll(lambda: user.has_answered(), "no end after the page was let go")
        return
    user.done()
    equal(pin.release(), b"held" * (PAGE // 4), "what the holder finds")
    if unlink:
        poll(lambda: os.statvfs(MNT).f_bfree > base, "the blocks did not come back")
    else:
        with open(path("f"), "rb") as again:
            equal(again.read(4), b"held", "the file")

def named(removed):
    last_reference(removed, unlink=False)

def huge(removed):
    last_reference(removed, huge=True)

removing(last_reference, "clear-dontcache")
removing(huge, "clear-dontcache")
removing(named, "clear-dontcache")
PY
proved "unlink and the reclaim of names go on although the inode is marked as not to be cached and a page of it is held; with the mark left on they wait, deaf to signals"
