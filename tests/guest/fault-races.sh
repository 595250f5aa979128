# Processes fault, write, truncate and punch the same file at once: no crash, no lost byte where only one of them writes, no old byte anywhere.
# timeout: 180
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
import time
rnd = seed()
# 1. Two processes fault in the same fresh holes at the same moment, each storing into its own half of every page.
f = os.open(path("f"), os.O_RDWR | os.O_CREAT)
N = 1500
os.ftruncate(f, N * PAGE)
def half(k):
    m = Map(f, N * PAGE)
    for i in range(N):
        m.write(i * PAGE + k * 2048, bytes([65 + k]) * 2048)
for c in [spawn(lambda k=k: half(k)) for k in (0, 1)]:
    reap(c, "faulting process")
want = b"A" * 2048 + b"B" * 2048
data = os.pread(f, N * PAGE, 0)
equal([i for i in range(N) if data[i * PAGE:(i + 1) * PAGE] != want], [], "pages where a store was lost")
# 2. One writes with write(2), one by stores, to the two halves of the same fresh pages, preallocated or not.
for pre in (False, True):
    g = os.open(path(f"g{pre}"), os.O_RDWR | os.O_CREAT)
    os.ftruncate(g, N * PAGE)
    if pre:
        fallocate(g, 0, 0, N * PAGE)
    def writer():
        for i in range(N):
            os.pwrite(g, b"W" * 2048, i * PAGE)
    def storer():
        m = Map(g, N * PAGE)
        for i in range(N):
            m.write(i * PAGE + 2048, b"S" * 2048)
    for c in [spawn(writer), spawn(storer)]:
        reap(c, "writer beside storer")
    data = os.pread(g, N * PAGE, 0)
    want = b"W" * 2048 + b"S" * 2048
    equal([i for i in range(N) if data[i * PAGE:(i + 1) * PAGE] != want], [], f"pages that lost bytes, preallocated: {pre}")
# 3. Faults against truncate and punch: a page shows zeros or the storer's byte, never anything else; nobody hangs.
h = os.open(path("h"), os.O_RDWR | os.O_CREAT)
M = 64
os.ftruncate(h, M * PAGE)
end = time.monotonic() + 6
def storer2(s):
    r = random.Random(s)
    m = Map(h, M * PAGE)
    while time.monotonic() < end:
        b = r.randrange(M)
        os.preadv(h, [bytearray(100)], b * PAGE)
        if m.probe(b * PAGE):
            try:
                os.pwrite(h, b"Q" * 100, b * PAGE + 5)
            except OSError:
                pass
def cutter(s):
    r = random.Random(s)
    while time.monotonic() < end:
        if r.random() < 0.5:
            os.ftruncate(h, r.randrange(M * PAGE))
            os.ftruncate(h, M * PAGE)
        else:
            o = r.randrange(M - 8) * PAGE
            fallocate(h, PUNCH_HOLE | KEEP_SIZE, o, r.randrange(1, 8) * PAGE)
s = rnd.randrange(1 << 30)
for c in [spawn(lambda: storer2(s)), spawn(lambda: storer2(s + 1)), spawn(lambda: cutter(s + 2))]:
    reap(c, "fault, write, truncate and punch at once")
check(set(os.pread(h, M * PAGE, 0)) <= {0, ord("Q")}, "a foreign byte")
PY
proved "two faulting processes, write beside store (holes and preallocated), and faults beside truncate/punch lose and leak nothing"
