# Preallocated blocks read as zeros whatever lay there before, and become data piece by piece; fiemap shows the states.
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
# fill most of the device with a mark, give it back: what is preallocated next holds old bytes
free = os.statvfs(MNT).f_bavail * 4096
f = os.open(path("old"), os.O_RDWR | os.O_CREAT)
block = b"SECRET!!" * (MIB // 8)
for o in range(0, min(free * 9 // 10, 512 * MIB), MIB):
    os.pwrite(f, block, o)
os.close(f)
os.unlink(path("old"))
rnd = seed()
f = os.open(path("f"), os.O_RDWR | os.O_CREAT)
N = 16 * MIB
fallocate(f, 0, 0, N)
check(all(e[3] & UNWRITTEN for e in extents(f)), "fiemap: all unwritten")
equal(os.pread(f, N, 0).count(0), N, "reads zeros")
m = aligned_map(f, N)
model = bytearray(N)
for i in range(200):
    o = rnd.randrange(N - 10000)
    d = rnd.randbytes(rnd.randrange(1, 10000))
    if i % 2:
        os.pwrite(f, d, o)
    else:
        m.write(o, d)
    model[o:o + len(d)] = d
equal(os.pread(f, N, 0), bytes(model), "read")
equal(m.read(0, N), bytes(model), "mapped")
spans = [(e[0], e[0] + e[2]) for e in extents(f)]
check(all(spans[i][1] <= spans[i + 1][0] for i in range(len(spans) - 1)), "extents in order")
equal(sum(e[2] for e in extents(f)), N, "extents cover everything")
m.close()
os.close(f)
libc.umount2(MNT.encode(), 0)
mount_new("/dev/pmem0", MNT, "dax=always")
equal(open(path("f"), "rb").read(), bytes(model), "after a remount")
# unaligned writes into fresh holes on the same old blocks
g = os.open(path("g"), os.O_RDWR | os.O_CREAT)
model = bytearray(4 * MIB)
os.ftruncate(g, len(model))
for i in range(200):
    o = rnd.randrange(len(model) - 3000)
    d = rnd.randbytes(rnd.randrange(1, 3000))
    os.pwrite(g, d, o)
    model[o:o + len(d)] = d
equal(os.pread(g, len(model), 0), bytes(model), "holes filled in odd pieces")
equal(b"SECRET" in os.pread(g, len(model), 0), False, "old bytes")
PY
proved "no old byte shows through preallocated blocks, faults into them, or odd writes into holes; fiemap states add up"
