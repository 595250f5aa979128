# MAP_SYNC mappings work on an NVDIMM: granted, stored through, seen by read; not without MAP_SHARED_VALIDATE, not read-only files.
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
f = os.open(path("f"), os.O_RDWR | os.O_CREAT)
os.ftruncate(f, 8 * MIB)
m = aligned_map(f, 8 * MIB, MAP_SHARED_VALIDATE | MAP_SYNC)
with open("/proc/self/smaps") as s:
    check(any(" sf" in line for line in s if line.startswith("VmFlags")), "VmFlags shows sf (MAP_SYNC)")
rnd = seed()
model = bytearray(8 * MIB)
for i in range(300):
    o, d = rnd.randrange(8 * MIB - 5000), rnd.randbytes(rnd.randrange(1, 5000))
    m.write(o, d)
    model[o:o + len(d)] = d
equal(os.pread(f, 8 * MIB, 0), bytes(model), "bytes stored")
fallocate(f, 0, 0, 8 * MIB)
for o in range(0, 8 * MIB, 65536):
    m.write(o, b"unwritten")
    model[o:o + 9] = b"unwritten"
equal(os.pread(f, 8 * MIB, 0), bytes(model), "into preallocated blocks")
m.sync()
t = os.open("/dev/shm/x", os.O_RDWR | os.O_CREAT)
os.ftruncate(t, PAGE)
refused("EOPNOTSUPP", lambda: Map(t, PAGE, MAP_SHARED_VALIDATE | MAP_SYNC), "MAP_SYNC on tmpfs (the test itself)")
PY
proved "MAP_SYNC is granted and shown in smaps; stores into holes, present and preallocated blocks are in the file"
