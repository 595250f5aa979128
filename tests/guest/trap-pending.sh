# While held pages are pending behind the end of a file, nothing deletes their entries: with truncate_pagecache they go, and the blocks get a new owner under the holder.
# test-build
# only: ochre
# timeout: 180
. "$(dirname "$0")/lib.sh"
python3 - <<'PY'
from racing import *

def truncate(removed, huge=False):
    size = HUGE if huge else PAGE
    f = make("f")
    fallocate(f, 0, 0, 2 * HUGE)
    os.pwrite(f, b"held" * (2 * size // 4), 0)
    m = aligned_map(f, 2 * size)
    # (The first page of a 2 MiB page, whose count is that of the whole one: without its entry it is taken apart.)
    held = []
    holder = Actor(pin=lambda: held.append(PinnedPage(m, size)), release=lambda: held.pop().release())
    holder.do("pin")
    m.read(size, 1)
    block = block_of(f, size)
    os.ftruncate(f, size)
    if removed:
        check(any("dax" in line for line in complaints()), f"no complaint of fs/dax.c about an entry deleted under its page: {complaints()}")
        next_owner(block)
        equal(holder.do("release")[:4], b"vvvv", "without the entry the holder finds another file's bytes, or the test is blind")
        return
    not_free(block)
    equal(holder.do("release"), b"held" * (PAGE // 4), "what the holder finds")

def truncate_huge(removed):
    truncate(removed, huge=True)

removing(truncate, "keep-held-entries")
removing(truncate_huge, "keep-held-entries")
PY
proved "a truncate leaves the entries of held pages (4 KiB, 2 MiB) and so their blocks; deleted with the others, the holder finds another file's bytes"
