# What was stored behind the end of a file, in its last block, is not in the file when it grows: each extension zeroes it first.
# test-build
# only: ochre
# timeout: 180
. "$(dirname "$0")/lib.sh"
python3 - <<'PY'
from racing import *

GROWTH = {
    "ftruncate": lambda f, size: os.ftruncate(f, 3 * PAGE),
    "ftruncate within the block": lambda f, size: os.ftruncate(f, size + 3000),
    "a write behind the end": lambda f, size: os.pwrite(f, b"new", 3 * PAGE - 3),
    "a write behind the end, within the block": lambda f, size: os.pwrite(f, b"new", size + 3000),
    "preallocation": lambda f, size: fallocate(f, 0, 2 * PAGE, PAGE),
    "zero range": lambda f, size: fallocate(f, ZERO_RANGE, 2 * PAGE, PAGE),
    "insert": lambda f, size: (fallocate(f, INSERT_RANGE, 0, PAGE), os.ftruncate(f, 3 * PAGE)),
}

def grow(removed):
    for name, growth in GROWTH.items():
        for size in (100, PAGE + 100):
            f = make(f"{name}{size}", data=b"file" * (size // 4))
            m = Map(f, 2 * PAGE)
            m.write(size + 10, b"behind the end")
            growth(f, size)
            data = os.pread(f, 4 * PAGE, 0)
            seen = data.find(b"behind") >= 0
            equal(seen, removed, f"{name} of a file of {size} bytes: what was stored behind its end shows (or the test is blind)")
            check(data.replace(b"behind the end", bytes(14)).replace(b"new", bytes(3)).strip(b"\0") == b"file" * (size // 4), f"{name}: the rest")
            m.close()
            os.close(f)

removing(grow, "tail-zero")
PY
proved "whichever call makes a file longer, what a mapping has stored behind its end does not show; not zeroed, it does"
