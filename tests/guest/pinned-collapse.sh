# A held page and collapse, insert, zero: one that would move makes the call wait, killably, while readers and writers go on; one that is taken out, one before the place, or one that is zeroed delays nothing.
# only: ochre
# timeout: 240
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
import time
base = None

def comes_back(text):
    for _ in range(400):
        if os.statvfs(MNT).f_bfree >= base:
            return
        time.sleep(0.05)
    fail(f"{text}: {base - os.statvfs(MNT).f_bfree} blocks did not come back")

def at_once(call, text):
    pid = spawn(call)
    for _ in range(3000):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            equal(status, 0, text)
            return
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    fail(f"{text}: it waits")

def goes_on(f, m, data, text):
    start = time.monotonic()
    equal(os.pread(f, len(data), 0), data, f"{text}: read")
    os.pwrite(f, data[:100], 0)
    equal(m.read(0, 100), data[:100], f"{text}: load")
    check(time.monotonic() - start < 20, f"{text}: readers and writers wait too")

def case(size, unit, offset):
    text = f"unit {unit >> 10} KiB"
    data = pattern(size, 7)
    f = os.open(path("a"), os.O_RDWR | os.O_CREAT)
    fallocate(f, 0, 0, size)
    m = aligned_map(f, size)
    m.write(0, data)
    start = offset // unit * unit
    pin = PinnedPage(m, offset)
    blocks = os.fstat(f).st_blocks
    # It would move: a collapse or an insertion in front of it, and one that takes a part of it out.
    waits = [("collapse before", lambda: fallocate(f, COLLAPSE_RANGE, 0, unit)), ("insert before", lambda: fallocate(f, INSERT_RANGE, start, PAGE))]
    if unit > PAGE:
        waits.append(("collapse of a part", lambda: fallocate(f, COLLAPSE_RANGE, start + PAGE, PAGE)))
    for what, call in waits:
        pid = spawn(call)
        check(blocked(pid, 2.0), f"{text}: {what} of a held page does not wait")
        goes_on(f, m, data, f"{text}: {what}")
        os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        equal(os.WIFSIGNALED(status) and os.WTERMSIG(status), signal.SIGKILL, f"{text}: {what} dies of SIGKILL")
        equal((os.fstat(f).st_size, os.fstat(f).st_blocks), (size, blocks), f"{text}: size and blocks after a killed {what}")
        equal(os.pread(f, size, 0), data, f"{text}: bytes after a killed {what}")
        equal(m.read(0, size), data, f"{text}: mapped bytes after a killed {what}")
    # Behind it: nothing to wait for.
    model = bytearray(data)
    at = start + unit
    at_once(lambda: fallocate(f, INSERT_RANGE, at, unit), f"{text}: insert behind")
    model[at:at] = bytes(unit)
    at_once(lambda: fallocate(f, COLLAPSE_RANGE, at + unit, unit), f"{text}: collapse behind")
    del model[at + unit:at + 2 * unit]
    # Over it: zeroed in place. Its block stays the file's: a store through the holder's page would be seen.
    at_once(lambda: fallocate(f, ZERO_RANGE, start - 100, unit + 200), f"{text}: zero over it")
    model[start - 100:start + unit + 100] = bytes(unit + 200)
    equal(os.pread(f, size, 0), bytes(model), f"{text}: after zero")
    equal(m.read(0, size), bytes(model), f"{text}: after zero, mapped")
    # Taken out: it goes behind the end with the rest of the range.
    at_once(lambda: fallocate(f, COLLAPSE_RANGE, start - unit, 3 * unit), f"{text}: collapse over it")
    del model[start - unit:start + 2 * unit]
    equal(os.pread(f, size, 0), bytes(model), f"{text}: after collapse")
    equal(m.read(0, len(model)), bytes(model), f"{text}: after collapse, mapped")
    check(os.fstat(f).st_blocks * 512 >= len(model) - unit, f"{text}: blocks that are held")
    # What moved up can be written and inserted into; the pending blocks stay out of the way.
    at_once(lambda: fallocate(f, INSERT_RANGE, 0, unit), f"{text}: insert beside pending blocks")
    model[0:0] = bytes(unit)
    m.write(0, b"n" * PAGE)
    model[0:PAGE] = b"n" * PAGE
    equal(os.pread(f, size, 0), bytes(model), f"{text}: after insert")
    equal(pin.release(), bytes(PAGE), f"{text}: what the pipe sees of a page that was zeroed in place")
    # Nothing is held: all of it happens.
    fallocate(f, COLLAPSE_RANGE, 0, unit)
    del model[:unit]
    equal(os.pread(f, size, 0), bytes(model), f"{text}: at the end")
    # A waiting call goes on when the page is let go, and finds the file as it is by then.
    pin = PinnedPage(m, offset)
    pid = spawn(lambda: fallocate(f, COLLAPSE_RANGE, 0, unit))
    check(blocked(pid, 2.0), f"{text}: collapse of a held page does not wait")
    os.pwrite(f, b"while it waits", 2 * unit)
    model[2 * unit:2 * unit + 14] = b"while it waits"
    pin.release()
    reap(pid, f"{text}: collapse after the release")
    del model[:unit]
    equal(os.pread(f, size, 0), bytes(model), f"{text}: after the wait")
    # One that waits finds the file as it is by then.
    pin = PinnedPage(m, len(model) - PAGE)
    pid = spawn(lambda: refused("EINVAL", lambda: fallocate(f, COLLAPSE_RANGE, 0, len(model) // 2), "collapse of a file that became shorter"))
    check(blocked(pid, 2.0), f"{text}: collapse of a held page does not wait, again")
    os.ftruncate(f, PAGE)
    pin.release()
    reap(pid, f"{text}: collapse of a file that became shorter")
    m.close()
    os.close(f)
    os.unlink(path("a"))
    comes_back(text)

open(path("a"), "w").close()
os.unlink(path("a"))
base = os.statvfs(MNT).f_bfree
case(64 * PAGE, PAGE, 20 * PAGE)
case(16 * MIB, HUGE, 5 * MIB)
PY
proved "a held 4 KiB and 2 MiB page delays only a collapse or insertion that would move it: that waits killably, readers and writers go on, SIGKILL leaves the file as it was; zeroed in place, or taken out, it delays nothing"
