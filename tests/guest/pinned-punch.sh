# With layout=wait, punching a hole over a pinned page waits; a hole elsewhere in the file does not.
. "$(dirname "$0")/lib.sh"
mount_fs $DEV $MNT "$([ $FSTYPE != ochre ] || echo layout=wait)"
python3 - <<'PY'
from ochretest import *
f = os.open(path("f"), os.O_RDWR | os.O_CREAT)
os.write(f, b"old!" * (64 * PAGE // 4))
m = Map(f, 64 * PAGE)
m.read(20 * PAGE, 1)
pin = PinnedPage(m, 20 * PAGE)
if FSTYPE == "ochre":
    child = spawn(lambda: fallocate(f, PUNCH_HOLE | KEEP_SIZE, 40 * PAGE, 8 * PAGE))
    reap(child, "a hole that does not touch the pinned page")
child = spawn(lambda: fallocate(f, PUNCH_HOLE | KEEP_SIZE, 16 * PAGE, 8 * PAGE))
check(blocked(child), "punch returned although a pipe holds a page of the range")
equal(os.waitpid(child, os.WNOHANG)[0], 0, "punch is waiting")
if FSTYPE == "ochre":
    # the file is not locked up by the waiter
    def others():
        os.pread(f, PAGE, 0)
        os.pwrite(f, b"x", 0)
        Map(f, PAGE).write(100, b"y")
    reap(spawn(others), "read, write and store beside a waiting punch")
equal(pin.release(), b"old!" * (PAGE // 4), "the pipe's bytes")
reap(child, "punch after the release")
equal(os.pread(f, 8 * PAGE, 16 * PAGE).count(0), 8 * PAGE, "the hole")
equal(m.read(20 * PAGE, PAGE).count(0), PAGE, "the hole, mapped")
# a page inside a 2 MiB mapping
g = os.open(path("g"), os.O_RDWR | os.O_CREAT)
fallocate(g, 0, 0, 4 * MIB)
h = aligned_map(g, 4 * MIB)
h.write(0, b"big." * MIB)
pin = PinnedPage(h, 300 * PAGE)
child = spawn(lambda: fallocate(g, PUNCH_HOLE | KEEP_SIZE, 299 * PAGE, 3 * PAGE))
check(blocked(child), "punch in a 2 MiB page")
equal(os.waitpid(child, os.WNOHANG)[0], 0, "punch in a 2 MiB page is waiting")
equal(pin.release(), b"big." * (PAGE // 4), "the pipe's bytes from a 2 MiB page")
reap(child, "punch in a 2 MiB page")
equal(os.pread(g, 4 * MIB, 0), b"big." * (299 * PAGE // 4) + bytes(3 * PAGE) + b"big." * ((4 * MIB - 302 * PAGE) // 4), "what stays of the 2 MiB")
equal(h.read(0, 4 * MIB), os.pread(g, 4 * MIB, 0), "mapping and read")
PY
proved "punch waits for pinned pages of its range (4 KiB, and inside a 2 MiB page), not for others; nobody else is held up"
