# What a process stores by mmap behind the end of a file, in its last page, never shows when the file grows, whichever way it grows.
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
END = 100

def grown(text, grow, size, at=None):
    """`grow` makes a file of END bytes one of `size`; the old tail is at `at` then."""
    f = os.open(path("f"), os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.write(f, b"d" * END)
    m = Map(f, PAGE)
    m.write(END, b"stale" * ((PAGE - END) // 5))
    try:
        grow(f)
    except OSError as e:
        equal(errno.errorcode[e.errno], "EOPNOTSUPP", text)
        print(f"{text}: not supported")
        return
    equal(os.fstat(f).st_size, size, f"{text}: size")
    got = os.pread(f, size, 0)
    check(b"stale" not in got and b"tale" not in got, f"{text}: shows what was stored behind the end, at byte {got.find(b'stale')}")
    check(b"stale" not in m.read(0, min(size, PAGE)), f"{text}: shows in the mapping")
    m.close()
    os.close(f)
    os.unlink(path("f"))

for offset, n in ((0, PAGE), (50, 100), (END, 10), (END + 100, 50), (END + 100, PAGE), (PAGE, 10), (PAGE, PAGE), (3 * PAGE + 7, 2 * PAGE), (0, 4 * MIB)):
    grown(f"write of {n} at {offset}", lambda f: os.pwrite(f, b"w" * n, offset), offset + n)
    grown(f"truncate to {offset + n}", lambda f: os.ftruncate(f, offset + n), offset + n)
    grown(f"fallocate {offset}+{n}", lambda f: fallocate(f, 0, offset, n), offset + n)
    grown(f"zero range {offset}+{n}", lambda f: fallocate(f, ZERO_RANGE, offset, n), offset + n)
    def keep(f):
        fallocate(f, ZERO_RANGE | KEEP_SIZE, offset, n)
        fallocate(f, KEEP_SIZE, offset, n)
        os.ftruncate(f, offset + n)
    grown(f"zero range and fallocate {offset}+{n}, size kept, and truncate", keep, offset + n)

def insert(f):
    fallocate(f, INSERT_RANGE, 0, 2 * PAGE)
    os.ftruncate(f, 4 * PAGE)
grown("insert range and truncate", insert, 4 * PAGE)

def collapse(f):
    # The mapped page is the last of three, and the first in the end.
    os.ftruncate(f, 2 * PAGE + END)
    m = Map(f, 3 * PAGE)
    m.write(2 * PAGE + END, b"stale" * 100)
    fallocate(f, COLLAPSE_RANGE, 0, 2 * PAGE)
    m.close()
    equal(os.fstat(f).st_size, END, "collapsed")
    os.ftruncate(f, PAGE)
grown("collapse range and truncate", collapse, PAGE)
PY
proved "a growing file shows zeros where its last page was stored to behind its end: write, truncate, fallocate, zero, insert, collapse"
