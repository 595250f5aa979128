# layout=defer, the default: a truncate returns at once while a page of what goes is held; the blocks come back later; growth over it gets new blocks, growth inside a held 2 MiB page waits with layout=wait, killably.
# only: ochre
# timeout: 300
. "$(dirname "$0")/lib.sh"
mount_fs
grep -q " $MNT ochre .*layout=defer" /proc/mounts || fail "options: $(grep " $MNT " /proc/mounts)"
python3 - <<'PY'
from ochretest import *
import subprocess, time
NOWAIT = 8
open(path("f"), "w").close()
os.unlink(path("f"))
base = os.statvfs(MNT).f_bfree
free = lambda: os.statvfs(MNT).f_bfree

def comes_back(want, text):
    for _ in range(200):
        if free() >= want:
            return
        time.sleep(0.05)
    fail(f"{text}: {want - free()} blocks did not come back")

def ended(pid, text, limit=20):
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            equal(status, 0, text)
            return
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    fail(f"{text}: it waits")

def at_once(call, text):
    ended(spawn(call), text)

def waits(call, text):
    pid = spawn(call)
    check(blocked(pid), f"{text}: it does not wait")
    equal(os.waitpid(pid, os.WNOHANG)[0], 0, f"{text}: waits")
    return pid

def make(size, pins, salt=1):
    f = os.open(path("f"), os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    fallocate(f, 0, 0, size)
    m = aligned_map(f, size)
    m.write(0, pattern(size, salt))
    return f, m, [PinnedPage(m, offset) for offset in pins]

for size, edge, held, unit, text in (
        (64 * PAGE, 8 * PAGE, 20 * PAGE, PAGE, "4 KiB pages"),
        (16 * MIB, 4 * MIB, 9 * MIB, HUGE, "2 MiB pages"),
        (16 * MIB, 5 * MIB + 100, 9 * MIB, HUGE, "2 MiB pages, the end in the middle of one")):
    data = pattern(size, 1)
    # Truncate returns; what is not held is free; the rest follows.
    f, m, (pin,) = make(size, [held])
    private = Map(f, size, MAP_PRIVATE)
    private.write(held, b"mine")
    private.write(0, b"mine")
    at_once(lambda: os.ftruncate(f, edge), f"{text}: truncate")
    equal(os.fstat(f).st_size, edge, f"{text}: size")
    kept = -(-edge // PAGE) + unit // PAGE
    check(base - free() in (kept, kept + 1), f"{text}: {base - free()} blocks taken, {kept} are kept or held (and one may be the tree's)")
    equal(m.probe(held), False, f"{text}: mapping beyond the end")
    equal(private.probe(held), False, f"{text}: private copy beyond the end")
    equal(private.read(0, 4), b"mine", f"{text}: private copy inside")
    equal(os.pread(f, size, 0), data[:edge], f"{text}: content")
    equal(m.read(0, edge), data[:edge], f"{text}: mapped content")
    m.write(edge // 2, b"stored")
    # The held bytes stay, whoever wants blocks.
    filler = os.open(path("filler"), os.O_RDWR | os.O_CREAT)
    if unit == PAGE:
        fallocate(filler, 0, 0, (os.statvfs(MNT).f_bavail - 100000) * PAGE)  # no need to write all of it
        try:
            for o in range(os.fstat(filler).st_size, 1 << 40, 4 * MIB):
                os.pwrite(filler, b"new." * MIB, o)
        except OSError as e:
            equal(errno.errorcode[e.errno], "ENOSPC", "filling")
    equal(pin.release(), data[held:held + PAGE], f"{text}: the pipe's bytes")
    os.ftruncate(filler, 0)
    os.close(filler)
    os.unlink(path("filler"))
    comes_back(base - -(-edge // PAGE) - 1, f"{text}: after the release")
    for _ in range(200):
        if os.fstat(f).st_blocks == -(-edge // PAGE) * 8:
            break
        time.sleep(0.05)
    equal(os.fstat(f).st_blocks, -(-edge // PAGE) * 8, f"{text}: blocks of the file")
    # Grown again, it reads as zeros.
    os.ftruncate(f, size)
    equal(os.pread(f, size, edge).count(0), size - edge, f"{text}: zeros after the old end")
    equal(m.read(held, PAGE).count(0), PAGE, f"{text}: mapped zeros")
    equal(private.read(held, 4), bytes(4), f"{text}: no private copy from before")
    m.close()
    private.close()
    os.close(f)
    os.unlink(path("f"))
    comes_back(base, f"{text}: unlink")

    # Growth, up to the held page and over it: zeros, at once; the held page is out of the way. A write that must not wait says so.
    f, m, (pin,) = make(size, [held])
    at_once(lambda: os.ftruncate(f, edge), f"{text}: truncate")
    before = held // unit * unit
    at_once(lambda: os.ftruncate(f, before), f"{text}: growth in front of the held page")
    equal(os.pread(f, size, edge).count(0), before - edge, f"{text}: zeros")
    at_once(lambda: equal(os.pwrite(f, b"n" * 10, before - 10), 10, "write"), f"{text}: write in front of the held page")
    refused("EAGAIN", lambda: os.pwritev(f, [b"x"], held, NOWAIT), f"{text}: write that must not wait")
    grow = {PAGE: lambda: os.ftruncate(f, size), HUGE: lambda: os.pwrite(f, bytes(1), size - 1)}[unit if edge % PAGE == 0 else PAGE]
    at_once(grow, f"{text}: growth over the held page")
    equal(os.pread(f, PAGE, held), bytes(PAGE), f"{text}: zeros over the held page")
    at_once(lambda: equal(os.pwrite(f, b"new" * 1000, held), 3000, "write"), f"{text}: write over the held page")
    equal(m.read(held, 3000), b"new" * 1000, f"{text}: mapped, over the held page")
    refill = pattern(size, 7)
    m.write(0, refill)
    equal(os.pread(f, size, 0), refill, f"{text}: written anew")
    # Again, twice: the same page of the file is held three times.
    second = PinnedPage(m, held)
    at_once(lambda: os.ftruncate(f, PAGE // 2), f"{text}: a second truncate")
    at_once(lambda: os.pwrite(f, b"late", size - 4), f"{text}: a write over two held pages")
    third = PinnedPage(m, held)
    at_once(lambda: os.ftruncate(f, PAGE // 2), f"{text}: a third truncate")
    at_once(lambda: os.pwrite(f, b"late", size - 4), f"{text}: a write over three held pages")
    at_once(lambda: fallocate(f, KEEP_SIZE, size, PAGE), f"{text}: preallocation beyond the end")
    equal(pin.release(), data[held:held + PAGE], f"{text}: the pipe's bytes")
    equal(third.release(), bytes(PAGE), f"{text}: the third pipe's bytes")
    equal(second.release(), refill[held:held + PAGE], f"{text}: the second pipe's bytes")
    got = os.pread(f, size, 0)
    equal(got[:PAGE // 2], refill[:PAGE // 2], f"{text}: begin")
    equal(got[PAGE // 2:-4].count(0), size - PAGE // 2 - 4, f"{text}: zeros")
    equal(got[-4:], b"late", f"{text}: the late write")
    m.close()
    os.close(f)
    os.unlink(path("f"))
    comes_back(base, f"{text}: all")

    # A deleted file, and one that is closed and cannot be found in memory any more.
    f, m, (pin,) = make(size, [held])
    os.ftruncate(f, edge)
    m.close()
    os.close(f)
    with open("/proc/sys/vm/drop_caches", "w") as d:
        d.write("2")
    equal(open(path("f"), "rb").read(), data[:edge], f"{text}: reopened")
    os.unlink(path("f"))
    pin.release()
    comes_back(base, f"{text}: truncated and deleted")

# A 2 MiB page that is held, with the new end in its middle.
f, m, (pin,) = make(8 * MIB, [5 * MIB])
at_once(lambda: os.ftruncate(f, 4 * MIB + 3 * PAGE + 7), "truncate into a held 2 MiB page")
equal(m.read(4 * MIB, 3 * PAGE), pattern(8 * MIB, 1)[4 * MIB:4 * MIB + 3 * PAGE], "what stays of it")
m.write(4 * MIB + PAGE, b"again")
equal(m.probe(4 * MIB + 4 * PAGE), False, "what goes of it")
check(base - free() >= 3 * 512, "its blocks stay")
equal(subprocess.call(["mount", "-o", "remount,layout=wait", MNT]), 0, "remount with layout=wait")
for what, call in (("truncate up", lambda: os.ftruncate(f, 5 * MIB)), ("write", lambda: os.pwrite(f, b"x", 6 * MIB)), ("fallocate", lambda: fallocate(f, 0, 0, 5 * MIB))):
    pid = waits(call, f"{what} in a held 2 MiB page")
    at_once(lambda: (os.pread(f, PAGE, 0), os.pwrite(f, pattern(8, 1), 0), m.write(8, pattern(16, 1)[8:])), f"read, write and store beside a waiting {what}")
    os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    equal(os.WIFSIGNALED(status), True, f"a killed {what}")
    equal(os.fstat(f).st_size, 4 * MIB + 3 * PAGE + 7, f"size after a killed {what}")
pid = waits(lambda: os.ftruncate(f, 5 * MIB), "growth in a held 2 MiB page")
equal(pin.release(), pattern(8 * MIB, 1)[5 * MIB:5 * MIB + PAGE], "the pipe's bytes")
ended(pid, "growth after the release")
equal(subprocess.call(["mount", "-o", "remount,layout=defer", MNT]), 0, "remount with layout=defer")
equal(os.pread(f, MIB, 4 * MIB), pattern(8 * MIB, 1)[4 * MIB:4 * MIB + PAGE] + b"again" + pattern(8 * MIB, 1)[4 * MIB + PAGE + 5:4 * MIB + 3 * PAGE + 7] + bytes(MIB - 3 * PAGE - 7), "content")
m.close()
os.close(f)
os.unlink(path("f"))
comes_back(base, "end in a held page")

# Many held pages in one file, let go in another order; a read-only remount in the middle.
f, m, pins = make(256 * PAGE, [i * PAGE for i in range(10, 250, 5)])
at_once(lambda: os.ftruncate(f, PAGE), "many held pages")
equal(base - free() - 49 in (0, 1, 2), True, f"{base - free()} blocks are kept for 48 held pages")
for pin in pins[::3]:
    pin.release()
comes_back(base - 33 - 2, "a third of them")
m.close()
os.close(f)
equal(subprocess.call(["mount", "-o", "remount,ro", MNT]), 0, "remount read-only with pending blocks")
for pin in pins[1::3]:
    pin.release()
time.sleep(0.6)
equal(subprocess.call(["mount", "-o", "remount,rw", MNT]), 0, "remount read-write")
for pin in pins[2::3]:
    pin.release()
os.unlink(path("f"))
comes_back(base, "many held pages")
PY
unmount_fs
mount_fs $DEV $MNT layout=wait
python3 - <<'PY'
from ochretest import *
f = os.open(path("f"), os.O_RDWR | os.O_CREAT)
os.write(f, b"old!" * (4 * PAGE // 4))
m = Map(f, 4 * PAGE)
m.read(2 * PAGE, 1)
pin = PinnedPage(m, 2 * PAGE)
child = spawn(lambda: os.ftruncate(f, PAGE))
check(blocked(child), "layout=wait: truncate returned")
equal(os.waitpid(child, os.WNOHANG)[0], 0, "layout=wait: truncate waits")
pin.release()
reap(child, "truncate after the release")
PY
mount -o remount,layout=defer $MNT
grep -q " $MNT ochre .*layout=defer" /proc/mounts || fail "remounted: $(grep " $MNT " /proc/mounts)"
unmount_fs
mount_refused EINVAL 'layout=never is not known.*layout=wait or layout=defer' $DEV layout=never
proved "truncate returns with held 4 KiB and 2 MiB pages behind the new end, or across it; growth over them too; growth inside a held page waits with layout=wait, killably; all blocks come back"
