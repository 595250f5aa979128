# A preallocated file is mapped by 2 MiB entries: counted by the kernel's tracepoints and in the page table itself.
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY' | tee /tmp/out
from ochretest import *
N = 64
f = os.open(path("f"), os.O_RDWR | os.O_CREAT)
fallocate(f, 0, 0, N * MIB)
m = aligned_map(f, N * MIB)
with Faults() as t:
    for o in range(0, N * MIB, PAGE):
        m.write(o, b"x")
done = t.count("dax_pmd_fault_done", "NOPAGE")
small = t.count("dax_pte_fault_done")
equal((done, small), (N // 2, 0), "write faults into preallocated 64 MiB: (2 MiB, 4 KiB)")
equal(huge_pages(m), N * MIB, "bytes on 2 MiB entries")
m.close()
m = aligned_map(f, N * MIB, MAP_SHARED, PROT_READ)
with Faults() as t:
    for o in range(0, N * MIB, PAGE):
        m.read(o, 1)
equal((t.count("dax_pmd_fault_done", "NOPAGE"), t.count("dax_pte_fault_done")), (N // 2, 0), "read faults on written blocks")
equal(huge_pages(m), N * MIB, "bytes on 2 MiB entries, read-only")
m.close()
# a file written in small pieces sits on aligned 2 MiB runs too
g = os.open(path("g"), os.O_RDWR | os.O_CREAT)
for o in range(0, N * MIB, 128 * 1024):
    os.pwrite(g, b"y" * (128 * 1024), o)
m = aligned_map(g, N * MIB)
for o in range(0, N * MIB, PAGE):
    m.read(o, 1)
share = huge_pages(m) / (N * MIB)
print(f"written in pieces of 128 KiB: {share:.0%} on 2 MiB entries")
check(share == 1.0 or FSTYPE != "ochre", "a file written in pieces of 128 KiB on an empty filesystem")
# the 2 MiB zero page for large holes
h = os.open(path("h"), os.O_RDWR | os.O_CREAT)
os.ftruncate(h, 8 * MIB)
m = aligned_map(h, 8 * MIB)
with Faults() as t:
    for o in range(0, 8 * MIB, PAGE):
        m.read(o, 1)
equal((t.count("dax_pmd_load_hole"), t.count("dax_pte_fault_done"), os.fstat(h).st_blocks), (4, 0, 0), "holes as 2 MiB zero pages")
PY
proved "64 MiB = 32 PMD faults and no PTE fault, write and read; page table: all on 2 MiB entries; holes as huge zero page"
