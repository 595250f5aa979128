# Touching a mapping beyond the end of the file is SIGBUS: from the start, after truncate, for private copies too, and EFAULT in system calls.
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
f = os.open(path("f"), os.O_RDWR | os.O_CREAT)
os.write(f, pattern(3 * PAGE))
m = Map(f, 8 * PAGE)
p = Map(f, 8 * PAGE, MAP_PRIVATE)
equal(signal_of(lambda: m.read(3 * PAGE, 1)), signal.SIGBUS, "read beyond the end")
equal(signal_of(lambda: m.write(3 * PAGE, b"x")), signal.SIGBUS, "write beyond the end")
equal(signal_of(lambda: p.write(3 * PAGE, b"x")), signal.SIGBUS, "private write beyond the end")
equal(signal_of(lambda: m.read(3 * PAGE - 1, 1)), 0, "the last byte")
p.write(2 * PAGE, b"mine")  # a private copy
m.write(2 * PAGE + 5, b"shared")
equal(p.read(2 * PAGE, 4), b"mine", "the private copy")
os.ftruncate(f, PAGE + 10)
for what, x in (("shared", m), ("private", p)):
    equal(x.probe(2 * PAGE), False, f"{what}, after truncate: page that was mapped")
    equal(x.probe(PAGE), True, f"{what}, after truncate: the page with the end in it")
equal(signal_of(lambda: p.read(2 * PAGE, 1)), signal.SIGBUS, "private copy after truncate")
os.ftruncate(f, 8 * PAGE)
equal((p.read(2 * PAGE, 4), m.read(2 * PAGE, 16)), (bytes(4), bytes(16)), "grown again: zeros, no old bytes")
equal(m.read(PAGE + 10, PAGE - 10), bytes(PAGE - 10), "the old tail")
# a 2 MiB page goes away as well
g = os.open(path("g"), os.O_RDWR | os.O_CREAT)
fallocate(g, 0, 0, 4 * MIB)
h = aligned_map(g, 4 * MIB)
h.write(0, b"1" * (4 * MIB))
os.ftruncate(g, HUGE + 5 * PAGE)
equal([h.probe(o) for o in (0, HUGE - 1, HUGE, HUGE + 5 * PAGE - 1, HUGE + 5 * PAGE, 4 * MIB - 1)], [True] * 4 + [False] * 2, "2 MiB page cut by truncate")
equal(os.pread(g, 8, HUGE + 5 * PAGE - 8), b"1" * 8, "what stays of it")
PY
proved "SIGBUS beyond the end, after truncate also for private copies and inside a 2 MiB page; zeros when the file grows again"
