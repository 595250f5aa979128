# Mapping entries: none is deleted while its page is held, none is left when its inode goes. Without the protections fs/dax.c and mm/truncate.c complain.
# test-build
# only: ochre
# timeout: 240
. "$(dirname "$0")/lib.sh"
python3 - <<'PY'
from racing import *

def warned(where):
    check(any(where in line for line in complaints()), f"no warning of {where} (the test is blind): {complaints()}")

def deleted_while_held(cut, huge):
    """A call removes a page that a pipe has."""
    def carry_out(removed):
        size = 2 * HUGE if huge else 4 * PAGE
        at = HUGE if huge else 2 * PAGE
        f = make("f")
        fallocate(f, 0, 0, size)
        m = aligned_map(f, size)
        m.write(0, b"old!" * (size // 4))
        if huge:
            equal(huge_pages(m), size, "2 MiB pages mapped")
        held = PinnedPage(m, at + PAGE)
        {
            "truncate": lambda: os.ftruncate(f, at),
            "punch": lambda: fallocate(f, PUNCH_HOLE | KEEP_SIZE, at, size - at),
            "collapse": lambda: (os.ftruncate(f, size + at), fallocate(f, COLLAPSE_RANGE, at, size - at)),
            "unlink": lambda: (m.close(), os.unlink(path("f")), os.close(f)),
        }[cut]()
        if removed:
            warned("fs/dax.c")
        elif cut == "unlink":
            with open("/proc/sys/vm/drop_caches", "w") as caches:
                caches.write("2")
        equal(held.release(), b"old!" * (PAGE // 4), "what the holder finds")
    carry_out.__name__ = f"{cut} over a held {'2 MiB' if huge else '4 KiB'} page"
    return carry_out

for cut in ("truncate", "punch", "collapse", "unlink"):
    for huge in (False, True):
        removing(deleted_while_held(cut, huge), "look-for-holders", pages_harmed=huge)

def left_at_evict(removed):
    """A file whose page was held at its last close goes when the page is let go; its entries were deleted before."""
    pipe = os.pipe()
    def close():
        f = make("f", data=b"mine" * PAGE)
        with Map(f, 4 * PAGE) as m:
            equal(m.read(0, 4) + m.read(2 * PAGE, 4), b"minemine", "the file")
            PinnedPage(m, PAGE, pipe=pipe)
        os.unlink(path("f"))
        os.close(f)
    closer = Actor(close=close).start("close")
    if removed:
        closer.waits("an eviction that was not deferred", "evict")
    else:
        closer.done("the last close")
    equal(os.read(pipe[0], PAGE), b"mine" * (PAGE // 4), "what the holder finds")
    if removed:
        closer.done("the last close")
        warned("mm/truncate.c")

# (Deferred, it would have no entry left at evict; so both go.)
removing(left_at_evict, "defer-eviction", "delete-at-evict")

def forgotten(removed):
    """A truncate that does not wait leaves entries behind the end; truncate_pagecache() would find them."""
    f = make("f", data=b"old!" * PAGE)
    m = Map(f, 4 * PAGE)
    held = PinnedPage(m, 2 * PAGE)
    os.ftruncate(f, PAGE)
    if removed:
        warned("mm/truncate.c")
    equal(held.release(), b"old!" * (PAGE // 4), "what the holder finds")

removing(forgotten, "keep-held-entries")
PY
proved "entries of held pages stay (truncate, punch, collapse, unlink; 4 KiB, 2 MiB), none is left when its inode goes; without the protections fs/dax.c and mm/truncate.c say so"
