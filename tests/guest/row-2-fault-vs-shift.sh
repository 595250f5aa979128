# Row 2: faults by read and by write, PTE and PMD, race collapse, insert, zero and punch: every page keeps its bytes and is where the model says, and no store reaches a block that has gone to another file.
# timeout: 240
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
import array, time
rnd = seed()
# A page is full of its own number; word 1 is the storers'. So whoever stores through a stale page table entry, into a block
# that has moved or that is another file's by now, shows.
MAGIC = 0x4F63687265 << 24
STORED = 0x5354 << 48 | 7
STORE = STORED.to_bytes(8, "little")
count = [0]

def numbered(n):
    """n fresh pages, and their numbers."""
    ids = [MAGIC | (count[0] + i + 1) for i in range(n)]
    count[0] += n
    return b"".join(i.to_bytes(8, "little") * 512 for i in ids), ids

def words(data):
    return array.array("Q", data)

def whole(f, ids, text):
    """Every page of the file is the one that the model has there."""
    equal(os.fstat(f).st_size, len(ids) * PAGE, f"{text}: size")
    got = words(os.pread(f, len(ids) * PAGE, 0))
    for i, want in enumerate(ids):
        page = got[i * 512:(i + 1) * 512]
        check(page[1] in (want, 0, STORED), f"{text}: page {i}: word 1 is {page[1]:#x}")
        page[1] = want
        if page.count(want) != 512:
            fail(f"{text}: page {i} is {page[0]:#x} .. {page[511]:#x}, wanted {want:#x}")

def race(pages, least, unit, aligned, seconds, text):
    f = os.open(path("f"), os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    # As 2 MiB pages, or in single blocks far apart in the file's order.
    data, ids = numbered(pages)
    if aligned:
        fallocate(f, 0, 0, pages * PAGE)
        os.pwrite(f, data, 0)
    else:
        for i in list(range(0, pages, 2)) + list(range(1, pages, 2)):
            os.pwrite(f, data[i * PAGE:(i + 1) * PAGE], i * PAGE)
    end = time.monotonic() + seconds
    def faulter(salt, store):
        r = random.Random(salt)
        m = aligned_map(f, least * PAGE) if aligned else Map(f, least * PAGE)
        while time.monotonic() < end:
            for _ in range(20):
                i = r.randrange(least)
                if store:
                    m.write(i * PAGE + 8, STORE)
                for w in set(words(m.read(i * PAGE, PAGE))):
                    check(w in (0, STORED) or w & ~0xFFFFFF == MAGIC, f"{text}: a foreign word {w:#x} in page {i}")
            if r.random() < 0.1:
                m.advise(4, 0, least * PAGE)
    def neighbour(salt):
        # Takes the blocks that come free, and notices what is stored there.
        r = random.Random(salt)
        g = os.open(path("g"), os.O_RDWR | os.O_CREAT)
        size = 64 * PAGE
        while time.monotonic() < end:
            d = r.randbytes(16) * (size // 16)
            os.pwrite(g, d, 0)
            time.sleep(0.002)
            equal(os.pread(g, size, 0) == d, True, f"{text}: a neighbour's bytes")
            os.ftruncate(g, 0)
    salt = rnd.randrange(1 << 30)
    children = [spawn(lambda: faulter(salt, False)), spawn(lambda: faulter(salt + 1, True)), spawn(lambda: neighbour(salt + 2))]
    done = {}
    while time.monotonic() < end:
        n = rnd.choice((1, unit)) if not aligned else rnd.choice((unit, unit, 1, 3))
        at = rnd.randrange(len(ids) - n)
        if n == unit:
            at -= at % unit
        how = rnd.choice(("collapse", "insert", "zero", "punch", "fill", "fill"))
        if how == "collapse" and len(ids) - n >= least and at + n < len(ids):
            fallocate(f, COLLAPSE_RANGE, at * PAGE, n * PAGE)
            del ids[at:at + n]
        elif how == "insert" and len(ids) + n <= 2 * pages:
            fallocate(f, INSERT_RANGE, at * PAGE, n * PAGE)
            ids[at:at] = [0] * n
        elif how == "zero":
            fallocate(f, ZERO_RANGE | KEEP_SIZE, at * PAGE, n * PAGE)
            ids[at:at + n] = [0] * n
        elif how == "punch":
            fallocate(f, PUNCH_HOLE | KEEP_SIZE, at * PAGE, n * PAGE)
            ids[at:at + n] = [0] * n
        elif how == "fill":
            d, new = numbered(n)
            os.pwrite(f, d, at * PAGE)
            ids[at:at + n] = new
        else:
            continue
        done[how] = done.get(how, 0) + 1
        if sum(done.values()) % 20 == 0:
            whole(f, ids, f"{text}, after {done}")
    for child in children:
        reap(child, text)
    whole(f, ids, text)
    print(f"{text}: {done}")
    check(len(done) == 5, f"{text}: not each call came by: {done}")
    os.close(f)

race(256, 160, 8, False, 12, "4 KiB pages")
race(8 * 512, 5 * 512, 512, True, 18, "2 MiB pages")
PY
proved "faults by read and by write, 4 KiB and 2 MiB, beside collapse, insert, zero and punch: each page keeps its bytes and its place, and none of another file's changes"
