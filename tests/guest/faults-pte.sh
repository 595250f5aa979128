# Where a 2 MiB page cannot be, 4 KiB faults do it: mixed holes and blocks, unaligned addresses, private mappings.
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
f = os.open(path("f"), os.O_RDWR | os.O_CREAT)
os.ftruncate(f, 2 * HUGE)
for i in range(0, 1024, 2):
    os.pwrite(f, b"a" * PAGE, i * PAGE)
m = aligned_map(f, 2 * HUGE)
with Faults() as t:
    for i in range(1024):
        m.write(i * PAGE + 1, b"b")
equal(t.count("dax_pmd_fault_done", "NOPAGE"), 0, "2 MiB faults")
equal(t.count("dax_pte_fault_done") >= 1024, True, "4 KiB faults")
equal(huge_pages(m), 0, "bytes on 2 MiB entries")
want = (b"ab" + b"a" * (PAGE - 2) + b"\0b" + bytes(PAGE - 2)) * 512
equal(os.pread(f, 2 * HUGE, 0), want, "bytes")
# read first (zero page or read-only entry), then write: the page is upgraded
g = os.open(path("g"), os.O_RDWR | os.O_CREAT)
os.ftruncate(g, 64 * PAGE)
for i in range(0, 64, 2):
    os.pwrite(g, b"c", i * PAGE)
m = Map(g, 64 * PAGE)
for i in range(64):
    equal(m.read(i * PAGE, 1), b"\0" if i % 2 else b"c", "read first")
with Faults() as t:
    for i in range(64):
        m.write(i * PAGE + 8, b"d")
check(t.count("dax_insert_pfn_mkwrite") + t.count("dax_pte_fault_done") >= 64, "upgrades are counted")
equal(os.pread(g, 64 * PAGE, 0), (b"c" + bytes(7) + b"d" + bytes(PAGE - 9) + bytes(8) + b"d" + bytes(PAGE - 9)) * 32, "bytes after the upgrade")
# private: read through, copy on write
p = Map(g, 64 * PAGE, MAP_PRIVATE)
for i in range(64):
    p.write(i * PAGE, b"P")
check(b"P" not in os.pread(g, 64 * PAGE, 0), "private stores stay private")
# a file of some hundred bytes, mapped and written over its whole page
h = os.open(path("h"), os.O_RDWR | os.O_CREAT)
os.write(h, b"short")
q = Map(h, PAGE)
q.write(4000, b"behind")
equal((os.fstat(h).st_size, os.pread(h, 100, 0)), (5, b"short"), "stores behind the end do not grow a file")
PY
proved "mixed holes and blocks fault in 4 KiB pages (1024 counted), zero and read-only pages are upgraded on write, private ones copied"
