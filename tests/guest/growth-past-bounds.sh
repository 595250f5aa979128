# A file in many pieces, cut while a page behind the new end is held: it grows, in every way, up to that page and past it, at once; a page that somebody holds far behind is in nobody's way.
# only: ochre
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
# The last piece, with which the tree has three leaves: bounds stay where pieces were.
LAST = 1398
CUT = 100

def cut(name):
    f = os.open(path(name), os.O_RDWR | os.O_CREAT, 0o644)
    for block in range(0, LAST + 1, 2):
        os.pwrite(f, block.to_bytes(4, "little") * 1024, block * PAGE)
    m = Map(f, (LAST + 1) * PAGE)
    equal(m.read(LAST * PAGE, 4), LAST.to_bytes(4, "little"), "the last piece")
    pin = PinnedPage(m, LAST * PAGE)
    os.ftruncate(f, CUT * PAGE)
    return f, m, pin

def grow(f, end):
    os.ftruncate(f, end * PAGE)

WAYS = {
    "truncate": grow,
    "write": lambda f, end: os.pwrite(f, b"w", end * PAGE - 1),
    "preallocation": lambda f, end: fallocate(f, 0, (end - 1) * PAGE, PAGE),
    "preallocation behind the end": lambda f, end: (fallocate(f, KEEP_SIZE, (end - 1) * PAGE, PAGE), grow(f, end)),
    "zero range": lambda f, end: fallocate(f, ZERO_RANGE, (end - 1) * PAGE, PAGE),
    "insert": lambda f, end: fallocate(f, INSERT_RANGE, 0, (end - CUT) * PAGE),
}
for name, way in WAYS.items():
    for end in (LAST - 300, LAST, LAST + 300):
        # In another process: one that nothing ends must not take the test with it.
        f, m, pin = cut("f")
        child = os.fork()
        if child == 0:
            try:
                way(f, end)
                os._exit(0)
            except OSError as e:
                print(f"{name}: {e}", flush=True)
                os._exit(1)
        deadline = time.monotonic() + 60 * int(os.environ.get("SLOW", "1"))
        while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                time.sleep(1)
                gone = os.waitpid(child, os.WNOHANG) != (0, 0)
                fail(f"{name} up to block {end} does not return" + ("" if gone else ", not even when killed"))
            time.sleep(0.001)
        equal(ended[1], 0, f"{name} up to block {end}")
        equal(os.fstat(f).st_size, end * PAGE, f"size after {name}")
        first = (end - CUT if name == "insert" else 0) * PAGE
        for block in range(0, CUT, 2):
            equal(os.pread(f, 4, first + block * PAGE), block.to_bytes(4, "little"), f"block {block} after {name}")
        if name != "insert":
            equal(os.pread(f, (end - CUT) * PAGE - 1, CUT * PAGE), bytes((end - CUT) * PAGE - 1), f"what {name} has laid bare")
        equal(pin.release(), LAST.to_bytes(4, "little") * 1024, "the holder's page")
        m.close()
        os.close(f)
        os.unlink(path("f"))
PY
proved "a file of 700 pieces that was cut under a held page grows by truncate, write, preallocation, zero range and insert, up to the page and past it, and shows zeros"
