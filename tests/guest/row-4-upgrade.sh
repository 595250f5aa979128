# A read-mapped page made writable: the zero page by pfn_mkwrite (others see the new block), a block by page_mkwrite; only a replaced hole is unmapped.
# only: ochre
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *

class Unmaps(Faults):
    """Notes calls of unmap_mapping_pages too, which unmap_mapping_range ends in."""
    def __enter__(self):
        self._put("kprobe_events", "p:ochre/unmap_pages unmap_mapping_pages\n")
        super().__enter__()
        self._put("events/ochre/unmap_pages/enable", "1")
        return self
    def __exit__(self, *a):
        super().__exit__(*a)
        self._put("events/ochre/unmap_pages/enable", "0")
        self._put("kprobe_events", "")
    def calls(self):
        """Calls inside of faults of fs/dax.c. (Opening a file of tracefs for writing unmaps as well.)"""
        calls, inside = 0, False
        for line in self.lines:
            if "_fault: " in line:
                inside = True
            elif "_fault_done: " in line:
                inside = False
            elif inside and "unmap_pages: " in line:
                calls += 1
        return calls

def faulted(text, call, unmaps, **events):
    with Unmaps() as u:
        call()
    equal(u.calls(), unmaps, f"{text}: calls that unmap; trace: {u.lines}")
    for event, count in events.items():
        equal(u.count(event), count, f"{text}: {event}")

SIZE = 4 * HUGE
f = os.open(path("f"), os.O_RDWR | os.O_CREAT)
os.ftruncate(f, SIZE)
a, b = Map(f, SIZE), Map(f, SIZE)  # 4 KiB pages for both, if the addresses do not fit 2 MiB pages
if (a.address | b.address) % HUGE == 0:
    a, b = Map(f, SIZE - PAGE, offset=PAGE), Map(f, SIZE - PAGE, offset=PAGE)
# The zero page of both becomes one block.
faulted("reading a hole", lambda: (a.read(0, 4), b.read(0, 4)), 0, dax_load_hole=2)
faulted("the zero page made writable", lambda: a.write(0, b"new"), 1, dax_pte_fault_done=1)
equal((a.read(0, 3), b.read(0, 3)), (b"new", b"new"), "both mappings afterwards")
# Nothing that replaces no hole unmaps.
faulted("the other mapping's store", lambda: b.write(0, b"two"), 0)
faulted("a store to a hole that nobody read", lambda: a.write(5 * PAGE, b"new"), 0, dax_pte_fault_done=1)
os.pwrite(f, b"x" * 4 * PAGE, 16 * PAGE)
at = 16 * PAGE - (PAGE if a.length != SIZE else 0)
faulted("reading a block", lambda: a.read(at, 4), 0, dax_pte_fault_done=1)
faulted("a block made writable", lambda: a.write(at, b"mine"), 0, dax_pte_fault_done=1)
faulted("a store to a block", lambda: b.write(at + PAGE, b"mine"), 0, dax_pte_fault_done=1)
os.fsync(f)
faulted("a store after fsync has made the page read-only", lambda: b.write(at + PAGE, b"more"), 0)
equal(os.pread(f, 4, 17 * PAGE), b"more", "the file")
# Preallocated blocks read as the zero page too.
fallocate(f, 0, 40 * PAGE, PAGE)
at = 40 * PAGE - (PAGE if a.length != SIZE else 0)
faulted("reading a preallocated block", lambda: (a.read(at, 4), b.read(at, 4)), 0, dax_load_hole=2)
faulted("its zero page made writable", lambda: a.write(at, b"pre!"), 1)
equal(b.read(at, 4), b"pre!", "the other mapping afterwards")
# 2 MiB: the zero page of two mappings, one of which is made writable.
g = os.open(path("g"), os.O_RDWR | os.O_CREAT)
os.ftruncate(g, 2 * HUGE)
c, d = aligned_map(g, 2 * HUGE), aligned_map(g, 2 * HUGE)
faulted("reading a hole of 2 MiB", lambda: (c.read(0, 4), d.read(0, 4)), 0, dax_pmd_load_hole=2)
faulted("its zero page made writable", lambda: c.write(HUGE - 8, b"huge"), 1, dax_pmd_fault_done=1)
equal((huge_pages(c), d.read(HUGE - 8, 4)), (HUGE, b"huge"), "a 2 MiB page, which the other mapping sees")
faulted("the other mapping's store", lambda: d.write(0, b"two"), 0)
faulted("a store to 2 MiB that nobody read", lambda: c.write(HUGE, b"new"), 0, dax_pmd_fault_done=1)
PY
proved "a zero page made writable (4 KiB, preallocated, 2 MiB) is unmapped from the others, who see the block; no other fault unmaps anything"
