# read, write and mmap see the same bytes, also when a hole that was mapped as the zero page gets its first block by write or by fault.
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
f = os.open(path("f"), os.O_RDWR | os.O_CREAT)
N = 64
os.ftruncate(f, N * PAGE)
m, n = Map(f, N * PAGE), Map(f, N * PAGE, MAP_SHARED, PROT_READ)
equal(n.read(0, N * PAGE), bytes(N * PAGE), "a hole through a mapping")
equal(m.read(0, N * PAGE), bytes(N * PAGE), "a hole through another")
equal(os.fstat(f).st_blocks, 0, "reading a hole allocates nothing")
# hole filled by write: both mappings had the zero page
os.pwrite(f, b"write", 3 * PAGE + 7)
equal(n.read(3 * PAGE, 16), bytes(7) + b"write" + bytes(4), "write seen by a mapping that had the zero page")
# hole filled by fault
m.write(9 * PAGE + 100, b"fault")
equal(n.read(9 * PAGE + 99, 7), b"\0fault\0", "store seen by the other mapping")
equal(os.pread(f, 7, 9 * PAGE + 99), b"\0fault\0", "store seen by read")
equal(os.fstat(f).st_blocks, 16, "exactly two blocks")
# several pages at once, odd edges
os.pwrite(f, pattern(10 * PAGE + 1), 20 * PAGE - 5)
equal(n.read(20 * PAGE - 5, 10 * PAGE + 1), pattern(10 * PAGE + 1), "a write over many zero pages")
equal((n.read(19 * PAGE, 16), n.read(30 * PAGE - 4 + 0, 8)[4:]), (bytes(16), bytes(4)), "around it")
# private mapping sees the file until it writes
p = Map(f, N * PAGE, MAP_PRIVATE)
os.pwrite(f, b"later", 40 * PAGE)
equal(p.read(40 * PAGE, 5), b"later", "private, not copied yet")
p.write(40 * PAGE, b"LAT")
os.pwrite(f, b"again", 40 * PAGE)
equal((p.read(40 * PAGE, 5), n.read(40 * PAGE, 5)), (b"LATer", b"again"), "private after its own write")
# the whole of it once more against a model, in random order
rnd = seed()
model = bytearray(os.pread(f, N * PAGE, 0))
for i in range(600):
    o = rnd.randrange(N * PAGE - 9000)
    d = rnd.randbytes(rnd.randrange(1, 9000))
    model[o:o + len(d)] = d
    if i % 2:
        os.pwrite(f, d, o)
    else:
        m.write(o, d)
    o = rnd.randrange(N * PAGE - 5000)
    equal(n.read(o, 5000), bytes(model[o:o + 5000]), f"mapping at step {i}")
    equal(os.pread(f, 5000, o), bytes(model[o:o + 5000]), f"read at step {i}")
# the same with 2 MiB zero pages
g = os.open(path("g"), os.O_RDWR | os.O_CREAT)
os.ftruncate(g, 8 * MIB)
h, k = aligned_map(g, 8 * MIB), aligned_map(g, 8 * MIB, MAP_SHARED, PROT_READ)
equal(k.read(0, 8 * MIB).count(0), 8 * MIB, "a large hole")
os.pwrite(g, b"w", HUGE + 12345)
equal((k.read(HUGE + 12344, 3), k.read(HUGE - 1, 1), k.read(2 * HUGE, 1)), (b"\0w\0", b"\0", b"\0"), "write into a large hole")
h.write(3 * HUGE + 1, b"s")
equal((k.read(3 * HUGE, 3), os.pread(g, 3, 3 * HUGE)), (b"\0s\0", b"\0s\0"), "store into a large hole")
PY
proved "zero pages of 4 KiB and 2 MiB are replaced everywhere by the first write or store; 600 mixed writes and stores match a model"
