# Random reads, writes, stores, truncates, punches, preallocations, appends and remounts on one file against a model (what fsx does, with mmap).
# timeout: 180
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
rnd = seed()
LIMIT = 3 * MIB
model, log = bytearray(), []
f = os.open(path("f"), os.O_RDWR | os.O_CREAT)
def span(most):
    o = rnd.randrange(LIMIT)
    n = rnd.choice((1, 7, 512, 4095, 4096, 4097, 20000, 100000, 700000))
    if rnd.random() < 0.3:
        o = o // PAGE * PAGE
    return o, min(n, most - o)
def differ(o, n, got, how):
    if got != bytes(model[o:o + n]):
        at = next(i for i in range(max(len(got), 1)) if got[i:i + 1] != model[o + i:o + i + 1])
        print("\n".join(log[-25:]))
        fail(f"{how} {o}+{n} differs at {o + at}: got {got[at:at + 8].hex()}, wanted {bytes(model[o + at:o + at + 8]).hex()}")
for step in range(4000):
    op = rnd.choice("write write store store read map truncate punch allocate append remount private collapse insert zero".split())
    if op in ("write", "append"):
        o, n = span(LIMIT)
        if op == "append":
            o, n = len(model), min(n, LIMIT - len(model))
        if n <= 0:
            continue
        d = rnd.randbytes(n)
        model.extend(bytes(max(0, o - len(model))))
        log.append(f"{step} {op} {o}+{n}")
        equal(os.pwrite(f, d, o), n, "bytes written")
        model[o:o + n] = d
    elif op in ("store", "map", "read", "private"):
        if not model:
            continue
        o, n = span(len(model))
        if n <= 0:
            continue
        log.append(f"{step} {op} {o}+{n}")
        if op == "read":
            differ(o, n, os.pread(f, n, o), "read")
            continue
        start = o // HUGE * HUGE if rnd.random() < 0.5 else o // PAGE * PAGE
        with aligned_map(f, o + n - start, MAP_PRIVATE if op == "private" else rnd.choice((MAP_SHARED, MAP_SHARED_VALIDATE | MAP_SYNC)), offset=start) as m:
            differ(o, n, m.read(o - start, n), "mapping")
            if op == "store":
                d = rnd.randbytes(n)
                m.write(o - start, d)
                model[o:o + n] = d
                end = (o + n + PAGE - 1) // PAGE * PAGE
                if o + n == len(model) and end > o + n:
                    m.write(o + n - start, b"\xee" * (end - o - n))  # behind the end: must never be seen
            elif op == "private":
                m.write(o - start, b"\xdd" * n)
    elif op == "truncate":
        n = rnd.randrange(LIMIT) if rnd.random() < 0.7 else 0
        log.append(f"{step} truncate {n}")
        os.ftruncate(f, n)
        del model[n:]
        model.extend(bytes(n - len(model)))
    elif op == "punch":
        o, n = span(LIMIT)
        if n <= 0:
            continue
        log.append(f"{step} punch {o}+{n}")
        fallocate(f, PUNCH_HOLE | KEEP_SIZE, o, n)
        k = max(0, min(n, len(model) - o))
        model[o:o + k] = bytes(k)
    elif op == "allocate":
        o, n = span(LIMIT)
        if n <= 0:
            continue
        keep = rnd.random() < 0.5
        log.append(f"{step} allocate {o}+{n} keep={keep}")
        fallocate(f, KEEP_SIZE if keep else 0, o, n)
        if not keep:
            model.extend(bytes(max(0, o + n - len(model))))
    elif op in ("collapse", "insert"):
        o, n = (x // PAGE * PAGE for x in span(LIMIT))
        if n == 0 or (op == "insert" and len(model) + n > LIMIT):
            continue
        log.append(f"{step} {op} {o}+{n}")
        mode = COLLAPSE_RANGE if op == "collapse" else INSERT_RANGE
        if (o + n if op == "collapse" else o) >= len(model):
            refused("EINVAL", lambda: fallocate(f, mode, o, n), log[-1])
            continue
        fallocate(f, mode, o, n)
        if op == "collapse":
            del model[o:o + n]
        else:
            model[o:o] = bytes(n)
    elif op == "zero":
        o, n = span(LIMIT)
        if n <= 0:
            continue
        keep = rnd.random() < 0.5
        log.append(f"{step} zero {o}+{n} keep={keep}")
        fallocate(f, ZERO_RANGE | (KEEP_SIZE if keep else 0), o, n)
        if not keep:
            model.extend(bytes(max(0, o + n - len(model))))
        k = max(0, min(n, len(model) - o))
        model[o:o + k] = bytes(k)
    elif op == "remount" and rnd.random() < 0.03:
        log.append(f"{step} remount")
        os.close(f)
        raise_errno(libc.umount2(MNT.encode(), 0))
        mount_new("/dev/pmem0", MNT, "dax=always")
        f = os.open(path("f"), os.O_RDWR)
    equal(os.fstat(f).st_size, len(model), f"size after {log[-1:]}")
    if step % 100 == 0:
        differ(0, len(model), os.pread(f, LIMIT + 10, 0), "whole file")
differ(0, len(model), os.pread(f, LIMIT + 10, 0), "whole file")
PY
proved "4000 random operations on one file, stores behind the end and private maps among them, match a model byte for byte"
