# A poisoned page costs just its processes, its block gives EIO until it is written anew, is quarantined then, also over a remount, and is named by `ochre owner`; a device's bad blocks are known at mount.
. "$(dirname "$0")/lib.sh"
# Boots of its own: a page stays poisoned until the machine is restarted.
cat >"$work/share/failing.py" <<'PY'
import re
import select
import subprocess
from ochretest import *

MADV_HWPOISON, PR_MCE_KILL = 100, 33
BUS_MCEERR_AR, BUS_MCEERR_AO = 4, 5


def physical(fd, page):
    """The device block of a page of the file."""
    os.fsync(fd)
    for logical, start, length, _ in extents(fd):
        if logical <= page * PAGE < logical + length:
            return (start + page * PAGE - logical) // PAGE
    return None


def lost(call, text):
    equal(errno_name(call), "EIO", text)


def poison(m, page):
    """Poisons a page that m maps. Who does so is its first victim, so it is a child that does."""
    m.read(page * PAGE, 1)
    equal(signal_of(lambda: (m.read(page * PAGE, 1), m.advise(MADV_HWPOISON, page * PAGE, PAGE))), signal.SIGBUS, "the process that met the failure")


def frame(m, page):
    """The number of the memory page behind a page that m maps."""
    m.read(page * PAGE, 1)
    with open("/proc/self/pagemap", "rb") as pagemap:
        pagemap.seek((m.address + page * PAGE) // PAGE * 8)
        return int.from_bytes(pagemap.read(8), "little") & (1 << 55) - 1


def corrupt(pfn):
    with open("/sys/kernel/debug/hwpoison/corrupt-pfn", "w") as injector:
        injector.write(str(pfn))


def fill():
    """Takes all space, and gives the blocks back; which they were."""
    f = os.open(path("all"), os.O_RDWR | os.O_CREAT)
    at, n = 0, 64 * MIB
    while n >= PAGE:
        try:
            fallocate(f, 0, at, n)
            at += n
        except OSError as e:
            equal(e.errno, errno.ENOSPC, "fallocate")
            n //= 2
    blocks = set()
    for _, start, length, _ in extents(f):
        blocks.update(range(start // PAGE, (start + length) // PAGE))
    os.unlink(path("all"))
    os.close(f)
    return blocks


def make(name, pages, salt=0):
    f = os.open(path(name), os.O_RDWR | os.O_CREAT)
    os.write(f, pattern(pages * PAGE, salt))
    return f


def owner_line(block):
    """The log's line about a block, and what the command in it says."""
    log = subprocess.run(["dmesg"], capture_output=True, text=True).stdout
    line = [l for l in log.splitlines() if re.search(rf"ochre: pmem0: memory failure: block {block} is lost", l)]
    equal(len(line), 1, f"lines about block {block}")
    command = re.search("`(.*)`", line[0]).group(1)
    said = subprocess.run(command.split(), capture_output=True, text=True)
    equal(said.returncode, 0, command + said.stderr)
    return said.stdout


class Child:
    """A process that maps some pages of a file, touches them, and goes on when it is told to."""

    def __init__(self, f, first, pages, early=False):
        go, self.go = os.pipe()
        self.ready, ready = os.pipe()

        def run():
            if early:
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGBUS})
                raise_errno(libc.prctl(PR_MCE_KILL, 1, 1, 0, 0))
            m = Map(f, pages * PAGE, offset=first * PAGE)
            for page in range(pages):
                m.read(page * PAGE, 1)
            os.write(ready, b"!")
            if early:
                info = signal.sigtimedwait({signal.SIGBUS}, 60)
                check(info is not None, "a process that wants to be told early was not told")
                equal(info.si_code, BUS_MCEERR_AO, "si_code")
                return
            os.read(go, 1)
            for page in range(pages):
                m.read(page * PAGE, 1)
        self.pid = spawn(run)
        os.read(self.ready, 1)

    def end(self):
        os.write(self.go, b"!")
        status = os.waitpid(self.pid, 0)[1]
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else status
PY
guest failure <<'SH'
mkfs.ochre -f /dev/pmem0 >/dev/null
mount -t ochre -o dax /dev/pmem0 /mnt
[ -e /sys/kernel/debug/hwpoison/corrupt-pfn ] || modprobe hwpoison-inject
cat >/tmp/first.py <<'PY'
from failing import *
quarantined = set()
before = os.statvfs(MNT).f_bfree

# Exactly the processes that map the page, in 4 KiB pages.
f, other = make("f", 8), make("other", 8, 5)
m = Map(f, 8 * PAGE)
block = physical(f, 3)
early, mapper, neighbour = Child(f, 3, 1, True), Child(f, 0, 8), Child(f, 4, 4)
poison(m, 3)
reap(early.pid, "told early")
equal(neighbour.end(), 0, "a process that maps other pages")
equal(mapper.end(), signal.SIGBUS, "a process that touches the page")
equal(m.probe(3 * PAGE), False, "the page")
equal(m.read(0, 3 * PAGE), pattern(8 * PAGE)[:3 * PAGE], "the pages before")
equal(m.read(4 * PAGE, 4 * PAGE), pattern(8 * PAGE)[4 * PAGE:], "the pages behind")
lost(lambda: os.pread(f, PAGE, 3 * PAGE), "read")
equal(os.pread(f, 8 * PAGE, 0), pattern(8 * PAGE)[:3 * PAGE], "a read ends before it")
equal(os.pread(f, 4 * PAGE, 4 * PAGE), pattern(8 * PAGE)[4 * PAGE:], "a read behind it")
lost(lambda: os.pwrite(f, b"x", 3 * PAGE + 7), "a write of a part")
lost(lambda: os.pwrite(f, b"x" * (PAGE - 1), 3 * PAGE), "a write of nearly all")
equal(os.pwrite(f, pattern(PAGE + 100, 1), 2 * PAGE), PAGE, "a write that ends in it")
equal(m.probe(3 * PAGE), False, "still lost")
check("/f" in owner_line(block), "ochre owner names the file")
equal(os.pread(other, 8 * PAGE, 0), pattern(8 * PAGE, 5), "another file")
os.mkdir(path("d"))
# Nor does a write whose buffer ends in the middle of the block: what it does not bring would be zeros that nobody wrote.
b = Map(-1, 2 * PAGE, MAP_PRIVATE | MAP_ANONYMOUS)
b.write(0, b"b" * PAGE)
libc.munmap(b.address + PAGE, PAGE)
libc.pwrite.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long]
refused("EFAULT", lambda: raise_errno(libc.pwrite(f, b.address + PAGE // 2, PAGE, 3 * PAGE)), "a write of half a buffer")
lost(lambda: os.pread(f, PAGE, 3 * PAGE), "read after it")
# A write of the whole block cures it.
equal(os.pwrite(f, pattern(3 * PAGE, 9), 2 * PAGE), 3 * PAGE, "a write over it")
equal(m.read(2 * PAGE, 3 * PAGE), pattern(3 * PAGE, 9), "the mapping")
equal(os.pread(f, 3 * PAGE, 2 * PAGE), pattern(3 * PAGE, 9), "read")
check(physical(f, 3) != block, "it is another block")
m.write(3 * PAGE, b"and by mmap")
m.sync()
equal(os.pread(f, 11, 3 * PAGE), b"and by mmap", "read")
quarantined.add(block)

# 2 MiB pages: one of their 512 is lost.
h = os.open(path("huge"), os.O_RDWR | os.O_CREAT)
fallocate(h, 0, 0, 4 * MIB)
m = aligned_map(h, 4 * MIB)
m.write(0, pattern(4 * MIB))
equal(huge_pages(m), 4 * MIB, "bytes in 2 MiB pages")
block = physical(h, 100)
other = Child(h, 512, 512)
poison(m, 100)
equal(other.end(), 0, "who maps the other 2 MiB page")
for page in (0, 99, 101, 511, 512):
    equal(m.read(page * PAGE, PAGE), pattern(4 * MIB)[page * PAGE:][:PAGE], f"page {page}")
equal(m.probe(100 * PAGE), False, "the page")
lost(lambda: os.pread(h, 10, 100 * PAGE), "read")
check("/huge" in owner_line(block), "ochre owner names the file")
pin = PinnedPage(m, 5 * PAGE)  # the cure needs the whole 2 MiB page, which somebody holds: it waits, and a signal ends that
waits = spawn(lambda: os.pwrite(h, b"n" * PAGE, 100 * PAGE))
check(blocked(waits), "the write waits for who holds the 2 MiB page")
os.kill(waits, signal.SIGKILL)
os.waitpid(waits, 0)
lost(lambda: os.pread(h, 10, 100 * PAGE), "read after a write that was killed")
pin.release()
os.pwrite(h, b"n" * PAGE, 100 * PAGE)
equal(m.read(99 * PAGE, 3 * PAGE), pattern(4 * MIB)[99 * PAGE:100 * PAGE] + b"n" * PAGE + pattern(4 * MIB)[101 * PAGE:102 * PAGE], "cured")
quarantined.add(block)

# Whatever takes the block out of its file.
for call in (lambda g: fallocate(g, PUNCH_HOLE | KEEP_SIZE, 2 * PAGE, 3 * PAGE), lambda g: os.ftruncate(g, 3 * PAGE + 5),
             lambda g: os.ftruncate(g, 0), lambda g: os.unlink(path("g"))):
    g = make("g", 8)
    m = Map(g, 8 * PAGE)
    quarantined.add(physical(g, 3))
    poison(m, 3)
    call(g)
    if os.fstat(g).st_size == 3 * PAGE + 5:
        lost(lambda: os.pread(g, 5, 3 * PAGE), "the tail")
        os.ftruncate(g, 8 * PAGE)
        lost(lambda: os.pread(g, 5, 3 * PAGE), "the tail, grown again")
    m.close()
    if os.path.exists(path("g")):
        os.unlink(path("g"))
    os.close(g)

# By the kernel's injector, which names a page of memory and no process.
g = make("injected", 8)
m = Map(g, 8 * PAGE)
m.read(3 * PAGE, 1)
mapper, neighbour = Child(g, 0, 8), Child(g, 4, 4)
block = physical(g, 3)
pfn = frame(m, 3)
m.close()  # whoever maps it is told at once, this process too
corrupt(pfn)
equal(neighbour.end(), 0, "a process that maps other pages of an injected failure")
equal(mapper.end(), signal.SIGBUS, "a process that touches the page of an injected failure")
m = Map(g, 8 * PAGE)
equal(m.probe(3 * PAGE), False, "the page of an injected failure")
lost(lambda: os.pread(g, PAGE, 3 * PAGE), "read of an injected failure")
check("/injected" in owner_line(block), "ochre owner names the file")
os.unlink(path("injected"))
m.close()
os.close(g)
quarantined.add(block)

# A file that stays lost.
k = make("keep", 8)
m = Map(k, 8 * PAGE)
poison(m, 6)
equal(len(quarantined), 7, "blocks")
got = fill()
check(not quarantined & got, f"handed out again: {quarantined & got}")
with open("/tmp/quarantined", "w") as out:
    out.write(" ".join(map(str, sorted(quarantined))))
PY
cat >/tmp/second.py <<'PY'
from failing import *
quarantined = set(map(int, open("/tmp/quarantined").read().split()))
k = os.open(path("keep"), os.O_RDWR)
lost(lambda: os.pread(k, 1, 6 * PAGE), "read after the remount")
equal(os.pread(k, 6 * PAGE, 0), pattern(8 * PAGE)[:6 * PAGE], "the rest")
m = Map(k, 8 * PAGE)
equal(m.probe(6 * PAGE), False, "the mapping")
quarantined.add(physical(k, 6))
os.pwrite(k, pattern(2 * PAGE, 3), 6 * PAGE)
equal(m.read(6 * PAGE, 2 * PAGE), pattern(2 * PAGE, 3), "cured")
got = fill()
check(not quarantined & got, f"handed out after the remount: {quarantined & got}")
os.mkdir(path("e"))
PY
export PYTHONPATH=/share
python3 /tmp/first.py
umount /mnt
fsck.ochre /dev/pmem0 | tail -n 1
mount -t ochre -o dax /dev/pmem0 /mnt
python3 /tmp/second.py
umount /mnt
fsck.ochre /dev/pmem0 | tail -n 1
dmesg | grep -i 'ochre\|memory.failure' | tail -n 40
SH
guest badblocks <<'SH'
export PYTHONPATH=/share
dev=/dev/pmem1
list() { echo "$(($1 * 8)) 8" >/sys/block/pmem1/badblocks; }
mkfs.ochre -f $dev >/dev/null
mount -t ochre -o dax $dev /mnt
python3 - <<'PY'
from failing import *
f = make("f", 300)
u = os.open(path("unwritten"), os.O_RDWR | os.O_CREAT)
fallocate(u, 0, 0, 8 * PAGE)
got = fill()
free = sorted(got)[len(got) // 2]
print(physical(f, 7), physical(u, 2), physical(u, 5), free, file=open("/tmp/blocks", "w"))
PY
umount /mnt
read -r data first second free </tmp/blocks
for block in $data $first $second $free; do list "$block"; done
mount -t ochre -o dax $dev /mnt
dmesg | grep -q 'ochre: pmem1: 4 blocks of 4 KiB are lost' || { dmesg | tail -n 5; exit 1; }
python3 - "$data" "$first" "$second" "$free" <<'PY'
from failing import *
bad = set(map(int, sys.argv[1:]))
f = os.open(path("f"), os.O_RDWR)
lost(lambda: os.pread(f, 1, 7 * PAGE), "read")
equal(os.pread(f, 300 * PAGE, 0), pattern(300 * PAGE)[:7 * PAGE], "before it")
equal(os.pread(f, 300 * PAGE, 8 * PAGE), pattern(300 * PAGE)[8 * PAGE:], "behind it")
m = Map(f, 300 * PAGE)
equal((m.probe(7 * PAGE), m.probe(6 * PAGE)), (False, True), "mapped")
os.pwrite(f, pattern(PAGE, 4), 7 * PAGE)
equal(m.read(7 * PAGE, PAGE), pattern(PAGE, 4), "cured")
u = os.open(path("unwritten"), os.O_RDWR)
m = Map(u, 8 * PAGE)
equal(os.pread(u, 8 * PAGE, 0), bytes(8 * PAGE), "preallocated blocks read as zeros")
m.write(2 * PAGE, b"mapped")
os.pwrite(u, b"written", 5 * PAGE + 9)
equal(os.pread(u, 8 * PAGE, 0).replace(b"\0", b""), b"mappedwritten", "what was stored")
check(not bad & fill(), "a bad block was handed out")
PY
umount /mnt
fsck.ochre $dev | tail -n 1
# A bad block in the journal: what is there can be read, and nothing is written.
list 30
mount -t ochre -o dax $dev /mnt
grep -q ' /mnt ochre ro,' /proc/mounts || { grep /mnt /proc/mounts; exit 1; }
dmesg | grep -q 'ochre: pmem1: memory failure: cannot read byte 0x1e000' || { dmesg | tail -n 5; exit 1; }
cmp <(head -c 4096 /mnt/f) <(python3 -c 'from ochretest import *; sys.stdout.buffer.write(pattern(PAGE))')
umount /mnt
# In the root directory's inode: no mount, no panic.
inode=$(ochre inspect $dev inode 1 --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["address"])')
list $((inode / 4096))
mount -t ochre -o dax,ro $dev /mnt 2>/dev/null && exit 1
dmesg | tail -n 12
# The check goes on past them, and names them.
said=$(fsck.ochre -nf $dev) && exit 1
grep -q "lists .* bad blocks of 4 KiB, the first is block" <<<"$said" || { echo "$said"; exit 1; }
grep -q 'inode 1: cannot be read' <<<"$said" || { echo "$said"; exit 1; }
fsck.ochre -nf --json $dev >/tmp/json && exit 1
python3 - "$data" $((inode / 4096)) <<'PY'
import json, sys
report = json.load(open("/tmp/json"))
assert {30, int(sys.argv[2])} <= set(report["bad_blocks"]), report["bad_blocks"]
assert any(issue["issue"] == "InodeUnreadable" for issue in report["issues"]), report["issues"]
PY
ochre owner $dev block 30
ochre owner $dev block $((inode / 4096))
# A repair cannot write there (this machine's NVDIMM cures nothing), and says where. Nothing dies.
fsck.ochre -yf $dev >/tmp/said 2>&1 && exit 1
rc=$?
tail -n 3 /tmp/said
[ $rc = 4 ] || [ $rc = 8 ] || { echo "fsck.ochre -y: exit status $rc"; exit 1; }
# A new filesystem leaves out what it can, and else is not made.
mkfs.ochre -f $dev >/tmp/said 2>&1 && { cat /tmp/said; exit 1; }
grep -q 'has a bad block at byte 0x1e000, where the journal has to be' /tmp/said || { cat /tmp/said; exit 1; }
dev=/dev/pmem0
size=$(blockdev --getsize64 $dev)
list=$((size / 4096 / 2))
echo "$((list * 8)) 16" >/sys/block/pmem0/badblocks
mkfs.ochre -f $dev | tee /tmp/said
grep -qx '2 bad blocks of 4 KiB are left out' /tmp/said
mount -t ochre -o dax $dev /mnt
python3 - $list <<'PY'
from failing import *
first = int(sys.argv[1])
check(not {first, first + 1} & fill(), "a bad block was handed out")
PY
umount /mnt
said=$(fsck.ochre -f $dev)
grep -q "lists 2 bad blocks" <<<"$said"
SH
guest races <<'SH'
rmmod ochre
insmod "$OCHRE_TEST_KO"
[ -e /sys/kernel/debug/hwpoison/corrupt-pfn ] || modprobe hwpoison-inject
mkdir /mnt1
for n in 0 1; do
    mkfs.ochre -f /dev/pmem$n >/dev/null
done
mount -t ochre -o dax /dev/pmem0 /mnt
mount -t ochre -o dax /dev/pmem1 /mnt1
python3 - <<'PY'
from racing import *
from failing import *
# A block fails behind the back of a write that has looked for lost blocks already: its page may be held, and is not replaced then.
for stored in (False, True):
    f = os.open(path("f"), os.O_RDWR | os.O_CREAT)
    os.pwrite(f, pattern(PAGE), PAGE)
    m = Map(f, 2 * PAGE)
    if stored:
        m.write(PAGE, pattern(PAGE))
    m.read(PAGE, 1)
    arm("write-reserved")
    write = spawn(lambda: equal(os.pwrite(f, pattern(2 * PAGE, 7), 0), PAGE, "a write into a block that is lost meanwhile ends before it"))
    wait_held("write-reserved")
    poison(m, 1)
    go("write-reserved")
    reap(write, "the write")
    lost(lambda: os.pread(f, 1, PAGE), "the lost block")
    equal(os.pwrite(f, pattern(2 * PAGE, 8), 0), 2 * PAGE, "the next write")
    equal(m.read(0, 2 * PAGE), pattern(2 * PAGE, 8), "the mapping")
    equal(os.pread(f, 2 * PAGE, 0), pattern(2 * PAGE, 8), "read")
    # The page that is mapped now is the one that is looked at.
    pin = PinnedPage(m, PAGE)
    os.ftruncate(f, 0)
    fill()
    equal(pin.release(), pattern(2 * PAGE, 8)[PAGE:], "what somebody holds of a page that was replaced")
    m.close()
    os.close(f)
    os.unlink(path("f"))
# Whoever deals with a failure has the last reference to a deleted file, on a frozen filesystem: nobody else's mount waits for that.
g = make("gone", 8)
m = Map(g, 8 * PAGE)
pfn = frame(m, 3)
m.close()
arm("failure-told")
inject = spawn(lambda: (os.close(g), corrupt(pfn)))
wait_held("failure-told")
os.unlink(path("gone"))
os.close(g)
subprocess.check_call(["fsfreeze", "-f", MNT])
go("failure-told")
other = subprocess.Popen(["umount", "/mnt1"])
try:
    equal(other.wait(20), 0, "umount of another filesystem")
except subprocess.TimeoutExpired:
    fail("umount of another filesystem waits")
finally:
    subprocess.check_call(["fsfreeze", "-u", MNT])
reap(inject, "the injection")
PY
umount /mnt
fsck.ochre /dev/pmem0 | tail -n 1
fsck.ochre /dev/pmem1 | tail -n 1
SH
export PMEM=512M SMP=2
boot one failure || fail "memory failures: exit status $?"
boot two badblocks || fail "bad blocks: exit status $?"
TEST_MODULE=$(TEST=1 "$TOP/scripts/build-module")
export TEST_MODULE
cp "$TOP/tests/guest/src/racing.py" "$work/share/"
boot three races || fail "failures beside writes and deletion: exit status $?"
proved "MADV_HWPOISON of 4 KiB and 2 MiB pages, hwpoison-inject: SIGBUS for who maps the page only, EIO there, cured by a whole write, quarantined over remounts; bad blocks known at mount; failures beside writes, deletion and freeze"
