# Each way in which a stranger holds a page, against each call that removes it, 4 KiB and 2 MiB pages, both policies: what waits, what does not, whose bytes end up where.
# only: ochre
# timeout: 600
# slow: EACH=16 a share of them
# EACH=N (default 6) runs every Nth combination, beginning with another one each time; WAYS="VmRead UringRead" those of some holders,
# which are in src/holders.py. EACH=1 runs all 252, in three minutes.
. "$(dirname "$0")/lib.sh"
# udev would look at the device, and wait for ever.
udevadm control --stop-exec-queue
trap 'dmsetup suspend --nolockfs slow; dmsetup remove --noudevsync --noudevrules slow; udevadm control --start-exec-queue || true' EXIT
modprobe brd rd_nr=1 rd_size=1024
modprobe dm-delay 2>/dev/null || true
dmsetup create slow --noudevsync --noudevrules --table "0 2048 delay /dev/ram0 0 100000000"
SLOW_DEVICE=/dev/dm-$(dmsetup info -c --noheadings -o minor slow)
export SLOW_DEVICE
python3 - <<'PY'
import itertools
from holders import *

FREE = 12 * MIB  # what is free beside the filler: blocks that are given back are somebody else's at once
count = {"went on": 0, "waited": 0}

def comes_back(base, text):
    wait_for(lambda: os.statvfs(MNT).f_bfree >= base, f"{text}: not all blocks came back")

def cut(data, size):
    return data[:size]

def hole(data, offset, n):
    return data[:offset] + bytes(min(n, len(data) - offset)) + data[offset + n:]

class Case:
    """One file, one held page, one call."""

    def __init__(self, policy, unit, way, name):
        self.policy, self.unit, self.name = policy, unit, name
        self.text = f"layout={policy}, {unit >> 10} KiB, {way.__name__}, {name}"
        self.way = way
        self.size = 8 * PAGE if unit == PAGE else 3 * HUGE
        self.start = 3 * PAGE if unit == PAGE else HUGE
        self.half = unit // 2
        # In a 2 MiB page, one in the half that is cut off or punched, or in the other: either way it is the same folio.
        self.page = self.start + (0 if unit == PAGE else random.choice((100, 300)) * PAGE)

    def call(self):
        """What is called, what it makes of the file's bytes, which bytes it removes, which policies wait."""
        f, start, unit, half, size = self.f, self.start, self.unit, self.half, self.size
        punch = lambda at, n: (lambda: fallocate(f, PUNCH_HOLE | KEEP_SIZE, at, n), lambda d: hole(d, at, n), (at, at + n))
        part = () if unit == PAGE else ("wait", "defer")
        return {
            "truncate before it": lambda: (lambda: os.ftruncate(f, start), lambda d: cut(d, start), (start, size), ("wait",)),
            "truncate inside it": lambda: (lambda: os.ftruncate(f, start + half), lambda d: cut(d, start + half), (start + half, size), () if unit == PAGE else ("wait",)),
            "truncate by O_TRUNC": lambda: (lambda: os.open(path("a"), os.O_WRONLY | os.O_TRUNC), lambda d: b"", (0, size), ("wait",)),
            "punch it": lambda: (*punch(start, unit), ("wait",)),
            "punch around it": lambda: (*punch(start - PAGE, unit + 2 * PAGE), ("wait",)),
            "punch its head": lambda: (*punch(start, half), part),
            "punch its tail": lambda: (*punch(start + half, half), part),
            "unlink": lambda: (lambda: os.unlink(path("a")), lambda d: d, None, ()),
            "rename over": lambda: (lambda: os.rename(path("b"), path("a")), lambda d: d, None, ()),
        }[self.name]()

    def started(self, call):
        pid = spawn(call)
        end = time.monotonic() + 0.15 * SLOW
        while time.monotonic() < end:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                equal(status, 0, self.text)
                return None
            time.sleep(0.002)
        return pid

    def run(self):
        data = pattern(self.size, 7)
        f = self.f = os.open(path("a"), os.O_RDWR | os.O_CREAT)
        os.close(os.open(path("b"), os.O_RDWR | os.O_CREAT))
        fallocate(f, 0, 0, self.size)
        m = aligned_map(f, self.size)
        m.write(0, data)
        if self.unit == HUGE:
            equal(huge_pages(m), self.size, f"{self.text}: bytes in 2 MiB pages")
        held = self.way(m, self.page, data[self.page:self.page + PAGE])
        call, model, removed, waits = self.call()
        pid = self.started(call)
        if self.policy in waits:
            check(pid, f"{self.text}: it returned")
            self.unchanged(data, m)
            os.kill(pid, signal.SIGKILL)
            equal(os.waitpid(pid, 0)[1], signal.SIGKILL, f"{self.text}: killed")
            self.unchanged(data, m)
            pid = self.started(call)
            check(pid, f"{self.text}: it returned the second time")
        elif pid:
            # Slow is not the same as waiting for the page: that it would do for ever.
            wait_for(lambda: os.waitpid(pid, os.WNOHANG)[0], f"{self.text}: it waits")
            pid = None
        count["waited" if pid else "went on"] += 1
        kept = removed is None or not (removed[0] <= self.page and self.page + PAGE <= removed[1])
        if not pid and removed:
            equal(os.pread(f, self.size, 0), model(data), f"{self.text}: the file while the page is held")
        grabbed = self.grab()
        if removed is None:
            m.close()
            os.close(f)
        if kept and not pid:
            # It is the file's page as before, and what it holds is what the call has made of it.
            held.want = model(data)[self.page:self.page + PAGE].ljust(PAGE, b"\0")
        held.release()
        if pid:
            reap(pid, f"{self.text}: after the release")
        self.look(grabbed)
        if removed:
            put = lambda d: d[:self.page] + held.stored + d[self.page + PAGE:] if held.stored else d
            want = model(put(data)) if pid else cut(put(model(data)), len(model(data))) if kept else model(data)
            equal(os.pread(f, self.size, 0), want, f"{self.text}: the file after the release")
            for name in grabbed:
                os.unlink(path(name))
            os.ftruncate(f, self.size)
            equal(m.read(0, self.size), want + bytes(self.size - len(want)), f"{self.text}: grown again, mapped")
            m.close()
            os.close(f)
        for name in os.listdir(MNT):
            if name != "filler":
                os.unlink(path(name))

    def unchanged(self, data, m):
        equal(os.fstat(self.f).st_size, self.size, f"{self.text}: the size while it waits")
        equal(os.pread(self.f, self.size, 0), data, f"{self.text}: the bytes while it waits")

    def grab(self):
        """Others take all that is free, and find nothing but their own bytes there for as long as they have it."""
        f = os.open(path("grab"), os.O_RDWR | os.O_CREAT)
        at = 0
        try:
            while True:
                at += os.pwrite(f, b"mine" * (MIB // 16), at)
        except OSError as e:
            equal(errno.errorcode[e.errno], "ENOSPC", f"{self.text}: taking all that is free")
        os.close(f)
        return ["grab"]

    def look(self, grabbed):
        for name in grabbed:
            with open(path(name), "rb") as f:
                data = f.read()
            equal(data.count(b"mine") * 4, len(data), f"{self.text}: bytes of another file")

names = ("truncate before it", "truncate inside it", "truncate by O_TRUNC", "punch it", "punch around it", "punch its head", "punch its tail", "unlink", "rename over")
ways = [w for w in ALL if not os.environ.get("WAYS") or w.__name__ in os.environ["WAYS"].split()]
random = seed()
every = int(os.environ.get("EACH") or 6)
turn = random.randrange(every)
for policy in ("wait", "defer"):
    mount_new(os.environ["DEV"], MNT, f"dax=always,layout={policy}")
    for name in "ab":  # inodes and the directory have their blocks before space is looked at
        open(path(name), "w").close()
    for name in "ab":
        os.unlink(path(name))
    filler = os.open(path("filler"), os.O_RDWR | os.O_CREAT)
    space = os.statvfs(MNT)
    fallocate(filler, 0, 0, space.f_bavail * PAGE - FREE)
    os.close(filler)
    base = None
    for unit, name, way in itertools.product((PAGE, HUGE), names, ways):
        if policy == "defer" and unit == HUGE and name in ("punch its head", "punch its tail"):
            continue  # does not wait; what the file keeps of the page is another test's matter (layout-defer)
        turn += 1
        if turn % every:
            continue
        case = Case(policy, unit, way, name)
        begin = time.monotonic()
        case.run()
        base = base or os.statvfs(MNT).f_bfree
        comes_back(base, case.text)
        print(f"{case.text}: ok, {time.monotonic() - begin:.2f} s")
        sys.stdout.flush()
    os.unlink(path("filler"))
    raise_errno(libc.umount(MNT.encode()))
print(f"count: {sum(count.values())} combinations: {count['went on']} calls did not wait, {count['waited']} waited, could be killed, and left the file as it was")
PY
proved "$(grep '^count:' /out/holders.log | tail -n 1 | cut -c8-); held by pipes, O_DIRECT, io_uring, process_vm_readv and _writev; no holder's byte in another file, all blocks come back"
