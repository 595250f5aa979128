# SEEK_HOLE/SEEK_DATA and fiemap tell where data is: holes, data, preallocated blocks, the end.
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
f = os.open(path("f"), os.O_RDWR | os.O_CREAT)
D, H = os.SEEK_DATA, os.SEEK_HOLE
refused("ENXIO", lambda: os.lseek(f, 0, D), "data of an empty file")
os.ftruncate(f, 100 * PAGE)
refused("ENXIO", lambda: os.lseek(f, 0, D), "data of a hole")
equal(os.lseek(f, 5, H), 5, "a hole starts here")
os.pwrite(f, b"x" * PAGE * 3, 10 * PAGE)
os.pwrite(f, b"x", 50 * PAGE + 17)
equal((os.lseek(f, 0, D), os.lseek(f, 10 * PAGE, H), os.lseek(f, 13 * PAGE, D), os.lseek(f, 50 * PAGE, H), os.lseek(f, 12 * PAGE + 5, D)),
      (10 * PAGE, 13 * PAGE, 50 * PAGE, 51 * PAGE, 12 * PAGE + 5), "data and holes")
refused("ENXIO", lambda: os.lseek(f, 51 * PAGE, D), "no data behind the last")
refused("ENXIO", lambda: os.lseek(f, 100 * PAGE, H), "hole at the end")
os.pwrite(f, b"x" * 10, 100 * PAGE)
equal(os.lseek(f, 100 * PAGE, H), 100 * PAGE + 10, "the end is a hole")
m = Map(f, 100 * PAGE)
m.write(70 * PAGE, b"y")
equal(os.lseek(f, 60 * PAGE, D), 70 * PAGE, "data that a fault made")
e = extents(f)
equal([(x[0] // PAGE, x[2] // PAGE) for x in e], [(10, 3), (50, 1), (70, 1), (100, 1)], "fiemap")
equal([x[3] & 1 for x in e], [0, 0, 0, 1], "LAST flag")
check(all(x[1] % PAGE == 0 and 0 < x[1] < 1 << 41 for x in e), "physical addresses")
size = int(open("/sys/block/pmem0/size").read()) * 512
check(all(x[1] + x[2] <= size for x in e), "inside the device")
# the bytes really lie there
with open("/dev/pmem0", "rb") as dev:
    os.fsync(f)
    dev.seek(e[1][1])
    equal(dev.read(20), bytes(17) + b"x" + bytes(2), "bytes on the device where fiemap says")
fallocate(f, 0, 200 * PAGE, 8 * PAGE)
e = extents(f)
equal((e[-1][0] // PAGE, e[-1][2] // PAGE, e[-1][3] & UNWRITTEN), (200, 8, UNWRITTEN), "preallocated in fiemap")
# 2000 separate blocks: the tree, and fiemap in several calls
g = os.open(path("g"), os.O_RDWR | os.O_CREAT)
for i in range(2000):
    os.pwrite(g, b"z", 2 * i * PAGE)
equal([(x[0] // PAGE, x[2] // PAGE) for x in extents(g)], [(2 * i, 1) for i in range(2000)], "2000 extents")
o, n = 0, 0
while errno_name(lambda: os.lseek(g, o, D)) == "OK":
    o = os.lseek(g, os.lseek(g, o, D), H)
    n += 1
equal(n, 2000, "2000 steps of SEEK_DATA and SEEK_HOLE")
PY
proved "SEEK_DATA/SEEK_HOLE and fiemap are exact over holes, faults, preallocation and 2000 extents; bytes lie where fiemap says"
