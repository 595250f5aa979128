# fallocate: preallocation, KEEP_SIZE, PUNCH_HOLE at all alignments, COLLAPSE_RANGE, INSERT_RANGE and ZERO_RANGE against a model, and what is refused.
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
# Collapse, insert, zero: pieces of a file change their places; read, shared mapping, private mapping and the count of blocks say the same as a model.
g = os.open(path("g"), os.O_RDWR | os.O_CREAT)
size = 4 * MIB + 1234
model = bytearray(pattern(size, 3))
os.write(g, model)
LIMIT = 12 * MIB
m = aligned_map(g, LIMIT)
private = Map(g, LIMIT, MAP_PRIVATE)
def same(text):
    equal(os.fstat(g).st_size, len(model), f"{text}: size")
    got = os.pread(g, LIMIT, 0)
    if got != bytes(model):
        at = next(i for i in range(len(model)) if got[i] != model[i])
        fail(f"{text}: differs at {at}: {got[at:at + 8].hex()} for {bytes(model[at:at + 8]).hex()}")
for i in range(150):
    n = rnd.choice((1, 1, 2, 7, 100, 512)) * PAGE
    o = rnd.choice((rnd.randrange(len(model)) // PAGE * PAGE, rnd.randrange(len(model)) // HUGE * HUGE))
    how = rnd.choice(("collapse", "collapse", "insert", "insert", "zero", "store", "punch"))
    # The pages are mapped, some as 2 MiB, some dirty, some copied, when they move.
    for where in (o, max(0, o - PAGE), len(model) - 1):
        equal(m.read(where, 1)[0], model[where], f"{i}: mapped, before {how} {o}+{n}")
        equal(private.read(where, 1)[0], model[where], f"{i}: private, before {how} {o}+{n}")
    if how == "collapse":
        if o + n >= len(model):
            refused("EINVAL", lambda: fallocate(g, COLLAPSE_RANGE, o, n), "collapse up to the end of the file")
            continue
        # Copies in private mappings behind the place go, as with a truncate.
        private.write(o + n, b"private")
        fallocate(g, COLLAPSE_RANGE, o, n)
        del model[o:o + n]
        equal(private.read(o, min(7, len(model) - o)), bytes(model[o:o + 7]), f"{i}: a private copy after a collapse")
    elif how == "insert":
        if len(model) + n > LIMIT:
            continue
        private.write(o, b"private")
        fallocate(g, INSERT_RANGE, o, n)
        model[o:o] = bytes(n)
        equal(private.read(o, 7), bytes(7), f"{i}: a private copy after an insertion")
    elif how == "zero":
        o, n = rnd.randrange(len(model)), rnd.randrange(1, 3 * MIB)
        keep = rnd.random() < 0.5
        n = min(n, LIMIT - o)
        fallocate(g, ZERO_RANGE | (KEEP_SIZE if keep else 0), o, n)
        if o + n > len(model) and not keep:
            model.extend(bytes(o + n - len(model)))
        k = min(n, len(model) - o)
        model[o:o + k] = bytes(k)
        blocks = os.fstat(g).st_blocks
        fallocate(g, KEEP_SIZE, o, n)
        equal(os.fstat(g).st_blocks, blocks, f"{i}: blocks of a zeroed range")
        equal(m.read(o, min(k, 5000)), bytes(min(k, 5000)), f"{i}: a zeroed range, mapped")
    elif how == "punch":
        fallocate(g, PUNCH_HOLE | KEEP_SIZE, o, n)
        k = min(n, len(model) - o)
        model[o:o + k] = bytes(k)
    else:
        d = rnd.randbytes(min(9000, len(model) - o))
        m.write(o, d)
        model[o:o + len(d)] = d
    where = rnd.randrange(len(model))
    equal(m.read(where, min(5000, len(model) - where)), bytes(model[where:where + 5000]), f"{i}: mapped, after {how} {o}+{n}")
    if i % 5 == 0:
        same(f"{i}: {how} {o}+{n}")
same("all")
equal(m.read(0, len(model)), bytes(model), "all, mapped")
m.close()
private.close()
# What is refused changes nothing, the times neither.
times = os.fstat(g).st_mtime_ns
whole = (len(model) + PAGE - 1) // PAGE * PAGE
for mode, o, n, want in ((COLLAPSE_RANGE, 1, PAGE, "EINVAL"), (COLLAPSE_RANGE, 0, 100, "EINVAL"), (COLLAPSE_RANGE, 0, whole, "EINVAL"), (COLLAPSE_RANGE, whole, PAGE, "EINVAL"),
        (INSERT_RANGE, 1, PAGE, "EINVAL"), (INSERT_RANGE, 0, 100, "EINVAL"), (INSERT_RANGE, whole, PAGE, "EINVAL"),
        (COLLAPSE_RANGE | KEEP_SIZE, 0, PAGE, "EOPNOTSUPP"), (INSERT_RANGE | KEEP_SIZE, 0, PAGE, "EOPNOTSUPP"), (COLLAPSE_RANGE | ZERO_RANGE, 0, PAGE, "EOPNOTSUPP")):
    refused(want, lambda: fallocate(g, mode, o, n), f"mode {mode}, {o}+{n}")
if FSTYPE == "ochre":
    equal(os.fstat(g).st_mtime_ns, times, "mtime after what was refused")
if FSTYPE == "ochre":
    top = (1 << 56) - 1
    refused("EFBIG", lambda: fallocate(g, INSERT_RANGE, 0, top // PAGE * PAGE), "insert past the largest size")
    refused("EOPNOTSUPP", lambda: fallocate(g, 128, 0, PAGE), "WRITE_ZEROES")
    fallocate(g, 64 | KEEP_SIZE, 0, len(model))
same("after what was refused")
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (len(model) + PAGE, resource.RLIM_INFINITY))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
refused("EFBIG", lambda: fallocate(g, INSERT_RANGE, 0, 2 * PAGE), "insert beyond the process's limit")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
same("after the limit")
# What is preallocated behind the end moves too.
os.ftruncate(g, 8 * PAGE)
fallocate(g, KEEP_SIZE, 0, 20 * PAGE)
fallocate(g, COLLAPSE_RANGE, 2 * PAGE, 3 * PAGE)
equal((os.fstat(g).st_size, os.fstat(g).st_blocks), (5 * PAGE, 17 * 8), "blocks behind the end after a collapse")
fallocate(g, INSERT_RANGE, PAGE, 3 * PAGE)
equal((os.fstat(g).st_size, os.fstat(g).st_blocks), (8 * PAGE, 17 * 8), "blocks behind the end after an insertion")
PY
proved "preallocation and KEEP_SIZE exact to the block; 250 punched holes of all alignments and 150 collapses, insertions and zeroed ranges match a model in read, shared and private mappings; errors"
