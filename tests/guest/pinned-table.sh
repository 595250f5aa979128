# Nine calls beside one held page, 4 KiB and 2 MiB: none waits for the holder, readers elsewhere do not notice, all blocks come back. Holders: a pipe, O_DIRECT from a stopped device.
# only: ochre
# timeout: 240
. "$(dirname "$0")/lib.sh"
mount_fs
mountpoint -q /sys/kernel/debug || mount -t debugfs none /sys/kernel/debug
modprobe brd rd_nr=1 rd_size=8192 2>/dev/null || true
slow=
if [ -b /dev/ram0 ] && dmsetup create slow --table "0 8192 linear /dev/ram0 0" 2>/dev/null; then slow=/dev/mapper/slow; fi
export slow
python3 - <<'PY'
from ochretest import *
import subprocess, threading, time
slow = os.environ.get("slow")
mkdirs = [open(path(n), "w").close() for n in ("a", "b", "c")]
for n in ("a", "b", "c"):
    os.unlink(path(n))
base = os.statvfs(MNT).f_bfree
slowest = [0.0, ""]

def comes_back(text):
    for _ in range(400):
        if os.statvfs(MNT).f_bfree >= base:
            return
        time.sleep(0.05)
    fail(f"{text}: {base - os.statvfs(MNT).f_bfree} blocks did not come back")

def at_once(call, text):
    pid = spawn(call)
    start = time.monotonic()
    while time.monotonic() - start < 30:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            equal(status, 0, text)
            took = time.monotonic() - start
            if took > slowest[0]:
                slowest[:] = [took, text]
            return
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    fail(f"{text}: it waits")

class Pipe:
    """vmsplice: a pipe has a reference."""
    gift = 0
    def __init__(self, m, offset, want):
        self.want = want
        self.pin = PinnedPage(m, offset)
    def release(self, text):
        equal(self.pin.release(), self.want, f"{text}: the pipe's bytes")

class DirectRead:
    """A child reads by O_DIRECT into the page, from a device that is stopped: it stores into the page when all calls are through."""
    def __init__(self, m, offset, want):
        subprocess.check_call(["dmsetup", "suspend", "--noflush", "--nolockfs", "slow"])
        r, w = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                d = os.open(slow, os.O_RDONLY | os.O_DIRECT)
                buf = (ctypes.c_char * PAGE).from_address(m.address + offset)
                os.write(w, b"g")
                n = os.readv(d, [buf])
                os._exit(0 if n == PAGE else 1)
            except BaseException as e:
                print("reader:", repr(e))
                os._exit(2)
        os.read(r, 1)
        os.close(r)
        os.close(w)
        check(blocked(self.pid), "the O_DIRECT read does not wait for its device")
    def release(self, text):
        subprocess.check_call(["dmsetup", "resume", "slow"])
        equal(os.waitpid(self.pid, 0)[1], 0, f"{text}: the O_DIRECT read")

def table(size, unit, offset, other, holder, text):
    data = pattern(size, 5)
    f = os.open(path("a"), os.O_RDWR | os.O_CREAT)
    fallocate(f, 0, 0, size)
    m = aligned_map(f, size)
    m.write(0, data)
    held = holder(m, offset, data[offset:offset + PAGE])
    start = offset // unit * unit
    # someone reads elsewhere all the time, by read and by mmap
    stop, longest = threading.Event(), [0.0]
    def reader():
        while not stop.is_set():
            t = time.monotonic()
            equal(os.pread(f, 8, 8), data[8:16], f"{text}: read elsewhere")
            equal(m.read(16, 8), data[16:24], f"{text}: load elsewhere")
            longest[0] = max(longest[0], time.monotonic() - t)
            time.sleep(0.001)
    t = threading.Thread(target=reader)
    t.start()
    at_once(lambda: os.pwrite(f, b"w" * 100, other), f"{text}: write elsewhere")
    at_once(lambda: fallocate(f, PUNCH_HOLE | KEEP_SIZE, other, unit), f"{text}: punch elsewhere")
    at_once(lambda: fallocate(f, COLLAPSE_RANGE, other, unit), f"{text}: collapse elsewhere")
    at_once(lambda: os.ftruncate(f, size - 2 * unit), f"{text}: truncate elsewhere")
    at_once(lambda: fallocate(f, PUNCH_HOLE | KEEP_SIZE, start, unit), f"{text}: punch the held page")
    equal(os.pread(f, unit, start).count(0), unit, f"{text}: the hole")
    equal(m.read(offset, PAGE), bytes(PAGE), f"{text}: the hole, mapped")
    at_once(lambda: os.pwrite(f, b"N" * PAGE, offset), f"{text}: write into the hole")
    equal(m.read(offset, PAGE), b"N" * PAGE, f"{text}: the new page, mapped")
    m.write(offset, b"M" * PAGE)
    equal(os.pread(f, PAGE, offset), b"M" * PAGE, f"{text}: a store to the new page")
    at_once(lambda: os.ftruncate(f, start), f"{text}: truncate the held page")
    at_once(lambda: os.ftruncate(f, size), f"{text}: grow over it")
    equal(os.pread(f, PAGE, offset), bytes(PAGE), f"{text}: zeros")
    stop.set()
    t.join()
    print(f"{text}: longest read elsewhere {longest[0] * 1000:.1f} ms")
    g = os.open(path("b"), os.O_RDWR | os.O_CREAT)
    at_once(lambda: os.rename(path("b"), path("a")), f"{text}: rename over")
    at_once(lambda: os.unlink(path("a")), f"{text}: unlink")
    held.release(text)
    m.close()
    os.close(f)
    os.close(g)
    comes_back(text)

for holder in (Pipe,) + ((DirectRead,) if slow else ()):
    table(64 * PAGE, PAGE, 20 * PAGE, 40 * PAGE, holder, f"4 KiB, {holder.__name__}")
    table(16 * MIB, HUGE, 5 * MIB, 8 * MIB, holder, f"2 MiB, {holder.__name__}")
    # unlink and rename over while it is held and mapped by nobody
    for size, offset, unit in ((16 * PAGE, 4 * PAGE, PAGE), (4 * MIB, 3 * MIB, HUGE)):
        f = os.open(path("a"), os.O_RDWR | os.O_CREAT)
        fallocate(f, 0, 0, size)
        m = aligned_map(f, size)
        m.write(0, pattern(size, 6))
        held = holder(m, offset, pattern(size, 6)[offset:offset + PAGE])
        at_once(lambda: fallocate(f, PUNCH_HOLE | KEEP_SIZE, 0, size), "punch all of a file")
        equal(os.pread(f, size, 0).count(0), size, "a punched file")
        m.close()
        os.close(f)
        at_once(lambda: os.unlink(path("a")), "unlink of a punched file")
        held.release("punched and deleted")
        comes_back("punched and deleted")

# A hole over a part of a held 2 MiB page; and over one beside what is preallocated behind the end, which stays.
f = os.open(path("a"), os.O_RDWR | os.O_CREAT)
fallocate(f, 0, 0, 4 * MIB)
m = aligned_map(f, 4 * MIB)
m.write(0, pattern(4 * MIB, 8))
pin = PinnedPage(m, 3 * MIB)
at_once(lambda: fallocate(f, PUNCH_HOLE | KEEP_SIZE, 3 * MIB, PAGE), "punch of a part of a held 2 MiB page")
equal(os.pread(f, PAGE, 3 * MIB), bytes(PAGE), "a part of a held 2 MiB page")
fallocate(f, KEEP_SIZE, 4 * MIB, MIB)
blocks = os.fstat(f).st_blocks
at_once(lambda: fallocate(f, PUNCH_HOLE | KEEP_SIZE, 2 * MIB, 2 * MIB), "punch over a held page beside preallocated blocks")
pin.release()
for _ in range(200):
    if os.fstat(f).st_blocks == blocks - 4096:
        break
    time.sleep(0.05)
equal(os.fstat(f).st_blocks, blocks - 4096, "preallocated blocks behind the end")
m.close()
os.close(f)
os.unlink(path("a"))

comes_back("at the end")
# By the filesystem's own count, too.
counters = dict(line.split()[:2] for line in open("/sys/kernel/debug/ochre-pmem0/layout"))
equal(counters["waits"], "0", "waits for a page")
print(f"slowest call: {slowest[0] * 1000:.0f} ms ({slowest[1]}), {'with' if slow else 'without'} a stopped device")
PY
[ -z "$slow" ] || dmsetup remove slow || true
rmmod brd 2>/dev/null || true
proved "write, truncate, punch, collapse elsewhere, rename over and unlink beside and over a held 4 KiB and 2 MiB page${slow:+ (by a pipe, and by O_DIRECT from a stopped device)} never wait; $(grep -a 'slowest call' /out/pinned-table.log | tail -n 1)"
