# fallocate: preallocation, KEEP_SIZE, PUNCH_HOLE at all alignments against a model, and the modes that are refused.
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
f = os.open(path("f"), os.O_RDWR | os.O_CREAT)
fallocate(f, 0, 5000, 3000)
equal((os.fstat(f).st_size, os.fstat(f).st_blocks), (8000, 8), "preallocation grows the file, one block")
fallocate(f, KEEP_SIZE, 0, 1 * MIB)
equal((os.fstat(f).st_size, os.fstat(f).st_blocks), (8000, 2048), "KEEP_SIZE keeps the size")
equal(os.pread(f, 10000, 0), bytes(8000), "zeros up to the size")
os.ftruncate(f, 8000)
os.pwrite(f, b"in preallocated", 500000)
os.ftruncate(f, 0)
equal(os.fstat(f).st_blocks, 0, "truncate gives blocks behind the end back too")

rnd = seed()
N = 3 * MIB
model = bytearray(pattern(N))
os.write(f, model)
m = Map(f, N)
for i in range(250):
    o = rnd.randrange(N - 1)
    n = rnd.choice((1, 100, 4095, 4096, 4097, 8192, 50000, 400000))
    if rnd.random() < 0.3:
        o, n = o // PAGE * PAGE, (n + PAGE - 1) // PAGE * PAGE
    n = min(n, N - o)
    fallocate(f, PUNCH_HOLE | KEEP_SIZE, o, n)
    model[o:o + n] = bytes(n)
    a = max(0, o - 5000)
    equal(os.pread(f, n + 10000, a), bytes(model[a:o + n + 5000 + (5000 - (o - a))]), f"read around hole {o}+{n}")
    equal(m.read(o, n).count(0), n, f"mapping of hole {o}+{n}")
    o = rnd.randrange(N - 5000)
    d = rnd.randbytes(rnd.randrange(1, 5000))
    if i % 2:
        os.pwrite(f, d, o)
    else:
        m.write(o, d)
    model[o:o + len(d)] = d
equal(os.pread(f, N, 0), bytes(model), "all")
equal(m.read(0, N), bytes(model), "all, mapped")
fallocate(f, PUNCH_HOLE | KEEP_SIZE, 0, 10 * N)
equal((os.fstat(f).st_blocks, os.fstat(f).st_size), (0, N), "all punched")
refused("EOPNOTSUPP", lambda: fallocate(f, PUNCH_HOLE, 0, PAGE), "PUNCH_HOLE without KEEP_SIZE")
refused("EINVAL", lambda: fallocate(f, 0, 0, 0), "nothing")
refused("EINVAL", lambda: fallocate(f, 0, -4096, 4096), "negative")
refused("ENOSPC", lambda: fallocate(f, 0, 0, 1 << 40), "more than there is")
refused("EBADF", lambda: fallocate(os.open(path("f"), os.O_RDONLY), 0, 0, PAGE), "read-only file")
free = os.statvfs(MNT).f_bfree
os.ftruncate(f, 0)
check(os.statvfs(MNT).f_bfree >= free, "what a failed fallocate took comes back")
for mode in (COLLAPSE_RANGE, INSERT_RANGE, ZERO_RANGE, 64):
    got = errno_name(lambda: fallocate(f, mode, 0, PAGE))
    check(got in ("OK", "EOPNOTSUPP", "EINVAL"), f"mode {mode}: {got}")
PY
proved "preallocation and KEEP_SIZE exact to the block; 250 punched holes of all alignments match a model in read and mmap; errors"
