# Truncate up and down: sizes, holes, the tail of the last block is zero when the file grows again, whichever way it was dirtied.
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
f = os.open(path("f"), os.O_RDWR | os.O_CREAT)
data = pattern(5 * MIB)
os.write(f, data)
model = bytearray(data)
rnd = seed()
sizes = [0, 1, 4095, 4096, 4097, 100, 2 * MIB, 2 * MIB + 1, 2 * MIB - 1, 5 * MIB - 7, 1 << 20] + [rnd.randrange(6 * MIB) for _ in range(60)]
for i, n in enumerate(sizes):
    os.ftruncate(f, n)
    model = model[:n] + bytes(max(0, n - len(model)))
    equal(os.fstat(f).st_size, n, "size")
    at = max(0, n - 9000)
    equal(os.pread(f, 20000, at), bytes(model[at:n]), f"bytes near the end at size {n}")
    if i % 3 == 0 and n > 5000:
        os.pwrite(f, b"!" * 3000, n - 3000)
        model[n - 3000:n] = b"!" * 3000
equal(os.pread(f, 6 * MIB, 0), bytes(model), "all of it")

# Bytes stored through a mapping behind EOF, in the last block, never become part of the file.
os.ftruncate(f, 0)
os.pwrite(f, b"a" * 100, 0)
with Map(f, PAGE) as m:
    m.write(50, b"z" * 4000)
    for n in (100, 60):
        os.ftruncate(f, n)
    os.ftruncate(f, 8192)
    equal(os.pread(f, 8192, 0), b"a" * 50 + b"z" * 10 + bytes(8132), "grown by truncate")
    os.ftruncate(f, 60)
    m.write(60, b"y" * 100)
    os.pwrite(f, b"end", 5000)
    equal(os.pread(f, 8192, 0), b"a" * 50 + b"z" * 10 + bytes(4940) + b"end", "grown by a write beyond")
    os.ftruncate(f, 60)
    m.write(60, b"y" * 100)
    fallocate(f, 0, 0, 8192)
    equal(os.pread(f, 8192, 0), b"a" * 50 + b"z" * 10 + bytes(8132), "grown by fallocate")

# The limits
refused("EFBIG", lambda: os.ftruncate(f, (1 << 63) - 1), "beyond the largest size") if FSTYPE == "ochre" else None
refused("EINVAL", lambda: os.ftruncate(f, -1), "negative")
os.ftruncate(f, 1 << 43)
os.pwrite(f, b"far", (1 << 43) - 3)
equal(os.pread(f, 10, (1 << 43) - 5), b"\0\0far", "8 TiB away")
free = os.statvfs(MNT).f_bfree
os.ftruncate(f, 0)
check(os.statvfs(MNT).f_bfree >= free, "blocks come back")
PY
remount_fs
proved "70 truncates up and down match a model; the tail is zeroed before truncate, write and fallocate extend over it; 8 TiB sparse"
