# Handles are opened while their files are made, held, deleted and evicted, and their numbers used again: the file or ESTALE, and never damage.
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
import time
rnd = seed()
END = time.monotonic() + 15
COUNT = 64
at = os.open(MNT, os.O_RDONLY)
shared = Map(-1, COUNT * 256, MAP_SHARED | MAP_ANONYMOUS)
template = None

def file(k, n):
    return (b"%08d" % (k * 1000000 + n)) * 512

def maker(part):
    """Makes and deletes files, some with a held page, and publishes handle and content of each."""
    n, pins = 0, []
    while time.monotonic() < END:
        k, n = part + 2 * rnd.randrange(COUNT // 2), n + 1
        name = path(f"f{k}")
        try:
            os.unlink(name)
        except FileNotFoundError:
            pass
        f = os.open(name, os.O_RDWR | os.O_CREAT)
        os.write(f, file(k, n))
        h = name_to_handle(name)
        # (The content first: who finds the new handle with the old number is told of it by the handle's second copy.)
        shared.write(256 * k, struct.pack("<QII", n, h.handle_bytes, h.handle_type) + bytes(h.data)[:64] + struct.pack("<Q", n))
        if rnd.random() < 0.2:
            with Map(f, PAGE) as m:
                m.read(0, 1)
                pins.append(PinnedPage(m, 0))
        os.close(f)
        if len(pins) > 10:
            pins.pop(rnd.randrange(len(pins))).release()
    for pin in pins:
        pin.release()
    print(f"{n} files")

def opener():
    opened = stale = 0
    while time.monotonic() < END:
        k = rnd.randrange(COUNT)
        raw = shared.read(256 * k, 88)
        first, size, kind = struct.unpack_from("<QII", raw)
        if not first or first != struct.unpack_from("<Q", raw, 80)[0]:
            continue
        h = FileHandle(size, kind)
        ctypes.memmove(h.data, raw[16:16 + size], size)
        # Again and again: the file goes, and its number is another's.
        for _ in range(rnd.randrange(60)):
            try:
                f = open_handle(at, h)
            except OSError as e:
                equal(errno.errorcode[e.errno], "ESTALE", "a handle")
                stale += 1
                continue
            got = os.pread(f, PAGE, 0)
            os.close(f)
            check(got == file(k, first), f"file {k} number {first} is {got[:16]!r}")
            opened += 1
    print(f"opened {opened}, stale {stale}")
    check(opened and stale, "the test has met both")

for pid in [spawn(lambda p=p: maker(p)) for p in (0, 1)] + [spawn(opener), spawn(opener)]:
    reap(pid, "a process")
with open(path("still"), "w") as f:
    f.write("writable")
PY
proved "handles opened while their files are made, deleted, evicted and held: the right file or ESTALE, the filesystem stays writable"
