# Appending writers (O_APPEND, RWF_APPEND, with and without RWF_DSYNC), readers and truncates at once: a file is always whole records, without a gap.
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
import time
rnd = seed()
END = time.monotonic() + 12
SIZE = 600
f = os.open(path("f"), os.O_RDWR | os.O_CREAT)

def records(data, text):
    for at in range(0, len(data) - SIZE + 1, SIZE):
        one = data[at:at + SIZE]
        who, n = one[:4], one[4:8]
        check(who[:1] == b"w" and one == (who + n) * (SIZE // 8), f"{text}: no record at {at} of {len(data)}: {one[:24]!r}")

def writer(k):
    flags = (0, 0x10, 0x12, 0x10)[k]  # (Not RWF_NOWAIT: it may stop at a block that is not there yet, in the middle of a record.)
    fd = os.open(path("f"), os.O_WRONLY | (0 if flags else os.O_APPEND))
    n = done = 0
    while time.monotonic() < END:
        n += 1
        done += os.pwritev(fd, [(b"w%03d" % k + b"%04d" % (n % 10000)) * (SIZE // 8)], 0, flags) == SIZE
    check(done > 20, f"writer {k} came to write {done} times only")

def reader():
    fd = os.open(path("f"), os.O_RDONLY)
    while time.monotonic() < END:
        records(os.pread(fd, 1 << 20, 0), "read")

pids = [spawn(lambda k=k: writer(k)) for k in range(4)] + [spawn(reader)]
m = Map(f, 64 * PAGE)
cuts = 0
while time.monotonic() < END:
    size = os.fstat(f).st_size
    # Whole records from the end; and sometimes while a page of what goes is held.
    keep = rnd.randrange(size // SIZE + 1) * SIZE
    pin = None
    if rnd.random() < 0.3 and size > keep + PAGE and keep // PAGE < 60 and m.probe(keep // PAGE * PAGE + PAGE):
        try:
            pin = PinnedPage(m, keep // PAGE * PAGE + PAGE)
        except OSError:
            pass
    os.ftruncate(f, keep if keep <= os.fstat(f).st_size else 0)
    if pin:
        pin.release()
    cuts += 1
    if cuts % 10 == 0:
        os.ftruncate(f, 0)
for pid in pids:
    reap(pid, "a writer or the reader")
data = os.pread(f, 1 << 30, 0)
equal(len(data) % SIZE, 0, "size")
records(data, "at the end")
print(f"{cuts} truncates")
PY
proved "appends of three kinds, reads, and truncates with held pages at once: never a gap, never a part of a record"
