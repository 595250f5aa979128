# layout=defer: growth inside a held 2 MiB page, a punch of a part of one, and blocks promised behind the end beside pending ones: none of them waits, and the promised blocks stay.
# only: ochre
# timeout: 300
. "$(dirname "$0")/lib.sh"
mount_fs
cat >/tmp/at-once.py <<'PY'
from ochretest import *
import subprocess, time

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

def comes_to(look, want, text):
    for _ in range(200):
        if look() == want:
            return
        time.sleep(0.05)
    fail(f"{text}: {look()} instead of {want}")

def remount(options):
    equal(subprocess.call(["mount", "-o", f"remount,{options}", MNT]), 0, f"remount {options}")

blocks = lambda f: os.fstat(f).st_blocks // 8
free = lambda: os.statvfs(MNT).f_bfree
count = 0

def make(size, pins, salt=1):
    global count
    count += 1
    f = os.open(path(f"f{count}"), os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    fallocate(f, 0, 0, size)
    m = aligned_map(f, size)
    m.write(0, pattern(size, salt))
    check(size < HUGE or huge_pages(m) == size, "no 2 MiB pages")
    return f, m, [PinnedPage(m, offset) for offset in pins]
PY
export PYTHONPATH=/tmp:$PYTHONPATH
python3 - <<'PY'
import importlib
globals().update(vars(importlib.import_module("at-once")))
data = pattern(8 * MIB, 1)

# Growth inside a held 2 MiB page: by truncate, write, fallocate, and past it.
f, m, (pin,) = make(8 * MIB, [5 * MIB])
edge = 4 * MIB + 3 * PAGE + 7
at_once(lambda: os.ftruncate(f, edge), "truncate into a held 2 MiB page")
at_once(lambda: os.ftruncate(f, edge + PAGE), "growth by a page")
equal(os.pread(f, 9 * PAGE, 4 * MIB), data[4 * MIB:edge] + bytes(PAGE), "content after growth by a page")
equal(m.read(4 * MIB, 4 * PAGE), data[4 * MIB:edge] + bytes(4 * PAGE - (edge - 4 * MIB)), "mapped content")
m.write(4 * MIB + 4 * PAGE - 5, b"stored over")
at_once(lambda: equal(os.pwrite(f, b"here", 4 * MIB + 300 * PAGE + 3), 4, "write"), "a write further on")
equal(os.pread(f, 8 * MIB, 4 * MIB + 4 * PAGE), b"d over" + bytes(296 * PAGE + 3 - 6) + b"here", "zeros in front of the write")
at_once(lambda: fallocate(f, 0, 5 * MIB, PAGE), "fallocate up to the held page's own offset and over it")
equal(os.pread(f, PAGE, 5 * MIB), bytes(PAGE), "the held page's place, in the file again")
m.write(5 * MIB + 10, b"both")
at_once(lambda: os.ftruncate(f, 8 * MIB), "growth past the held page")
equal(os.pread(f, 4 * MIB, 5 * MIB + 14).replace(b"here", bytes(4)), bytes(3 * MIB - 14), "zeros")
# It is the file's page again, and the pipe shows what the file holds.
equal(pin.release(), bytes(10) + b"both" + bytes(PAGE - 14), "the pipe's bytes")
equal(m.read(5 * MIB, PAGE), bytes(10) + b"both" + bytes(PAGE - 14), "mapped")
equal(os.pread(f, 4 * MIB + 3 * PAGE + 7, 0), data[:edge], "begin")
comes_to(lambda: blocks(f) <= 3 * 512 + 1, True, "what was behind the held page")
m.close()
os.close(f)

# The same with the page let go before: what was reclaimed stays, the rest goes.
f, m, (pin,) = make(4 * MIB, [3 * MIB])
at_once(lambda: os.ftruncate(f, 2 * MIB + PAGE), "truncate")
at_once(lambda: os.ftruncate(f, 2 * MIB + 3 * PAGE - 1), "growth")
pin.release()
comes_to(lambda: blocks(f), 512 + 3, "blocks after the release")
equal(os.pread(f, 4 * MIB, 0), data[:2 * MIB + PAGE] + bytes(2 * PAGE - 1), "content")
m.close()
os.close(f)

# A punch of the head, the tail, the middle of a held 2 MiB page, and of whole held ones between two parts.
for first, end, kept in ((5 * MIB + 7, 8 * MIB, 1), (MIB, 5 * MIB - 9, 1), (4 * MIB + 5, 4 * MIB + 300 * PAGE, 1), (MIB, 7 * MIB, 2)):
    text = f"punch of {first}-{end}"
    pins = [2 * MIB, 4 * MIB + 100 * PAGE] if kept == 1 else [2 * MIB - PAGE, 3 * MIB, 4 * MIB, 7 * MIB + PAGE]
    f, m, held = make(8 * MIB, pins)
    at_once(lambda: fallocate(f, PUNCH_HOLE | KEEP_SIZE, first, end - first), text)
    want = data[:first] + bytes(end - first) + data[end:]
    equal(os.pread(f, 8 * MIB, 0), want, f"{text}: content")
    equal(m.read(0, 8 * MIB), want, f"{text}: mapped")
    for pin, at in zip(held, pins):
        # A page that stayed is the file's and shows the hole; one that went has its old bytes.
        page = data[at:at + PAGE]
        whole = first <= at // HUGE * HUGE and at // HUGE * HUGE + HUGE <= end
        equal(pin.release(), page if whole else want[at:at + PAGE], f"{text}: the pipe's bytes of {at}")
    # Held pages with a part outside keep their blocks; whole ones go.
    gone = sum(1 for h in range(4) if first <= h * HUGE and h * HUGE + HUGE <= end)
    part = [h for h in range(4) if not (first <= h * HUGE and h * HUGE + HUGE <= end) and h * HUGE < end and first < h * HUGE + HUGE]
    lost = sum(min(end, (h + 1) * HUGE) // PAGE - -(-max(first, h * HUGE) // PAGE) for h in part if not any(at // HUGE == h for at in pins))
    comes_to(lambda: 2048 - gone * 512 - lost <= blocks(f) <= 2048 - gone * 512 - lost + 1, True, f"{text}: blocks")
    m.write(0, pattern(8 * MIB, 2))
    equal(os.pread(f, 8 * MIB, 0), pattern(8 * MIB, 2), f"{text}: written anew")
    m.close()
    os.close(f)

# Blocks promised behind the end, before and after something is pending; they survive its end.
f, m, (pin,) = make(64 * PAGE, [20 * PAGE])
fallocate(f, KEEP_SIZE, 64 * PAGE, 16 * PAGE)
equal(blocks(f), 80, "with promised blocks")
at_once(lambda: fallocate(f, PUNCH_HOLE | KEEP_SIZE, 20 * PAGE, PAGE), "punch beside promised blocks")
equal(blocks(f) in (80, 81), True, f"while the page is held: {blocks(f)}")
at_once(lambda: fallocate(f, KEEP_SIZE, 80 * PAGE, 4 * PAGE), "more promised blocks")
at_once(lambda: fallocate(f, PUNCH_HOLE | KEEP_SIZE, 70 * PAGE, 2 * PAGE), "fewer promised blocks")
at_once(lambda: os.ftruncate(f, 66 * PAGE), "growth over promised blocks")
equal(os.pread(f, 2 * PAGE, 64 * PAGE), bytes(2 * PAGE), "promised blocks are zeros")
equal(pin.release(), pattern(8 * MIB, 1)[20 * PAGE:21 * PAGE], "the pipe's bytes")
comes_to(lambda: blocks(f), 79 + 4 - 2, "after the release")
# A truncate with a held page: it leaves what the promise then moves.
m.write(30 * PAGE, b"x")
pin = PinnedPage(m, 30 * PAGE)
at_once(lambda: os.ftruncate(f, 10 * PAGE), "truncate")
at_once(lambda: fallocate(f, KEEP_SIZE, 28 * PAGE, 4 * PAGE), "a promise over a held page behind the end")
pin.release()
comes_to(lambda: blocks(f), 14, "after the release")
at_once(lambda: os.ftruncate(f, 64 * PAGE), "growth")
equal(os.pread(f, 64 * PAGE, 10 * PAGE), bytes(54 * PAGE), "zeros")
m.close()
os.close(f)

# Read-only meanwhile: what is let go comes back when it is writable again, with the file open and named.
before = free()
f, m, (pin, other) = make(64 * PAGE, [20 * PAGE, 40 * PAGE])
fallocate(f, PUNCH_HOLE | KEEP_SIZE, 40 * PAGE, PAGE)
os.ftruncate(f, 8 * PAGE)
m.close()
name = os.readlink(f"/proc/self/fd/{f}")
os.close(f)
f = os.open(name, os.O_RDONLY)
held = blocks(f)
remount("ro")
pin.release()
other.release()
time.sleep(0.7)
equal(blocks(f), held, "blocks while read-only")
remount("rw")
comes_to(lambda: blocks(f), 8, "blocks when writable again")
equal(os.pread(f, 64 * PAGE, 0), pattern(8 * MIB, 1)[:8 * PAGE], "content")
os.close(f)
f, m, (pin,) = make(64 * PAGE, [20 * PAGE])
os.ftruncate(f, 8 * PAGE)
m.close()
os.close(f)
remount("ro")
pin.release()
PY
# Unmounted while read-only with blocks that nobody holds any more: they are the next mount's.
remount_fs
last=$(find "$MNT" -name 'f*' -size 32k | head -n 1)
for _ in $(seq 100); do [ "$(stat -c %b "$last")" != 64 ] || break; sleep 0.1; done
[ "$(stat -c %b "$last")" = 64 ] || fail "$(stat -c %b "$last") sectors of $last are left"
unmount_fs
proved "growth in a held 2 MiB page, punch of a part of one and promises behind the end go on at once; promised blocks stay; what was let go while read-only comes back"
