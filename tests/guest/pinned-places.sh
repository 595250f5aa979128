# A held page that cannot be put behind the end of its file, since all eight places are taken or memory is short: the call waits, killably, with the file unchanged, and goes on once there is a place; nobody else is held up.
# test-build
# only: ochre
# timeout: 240
. "$(dirname "$0")/lib.sh"
python3 - <<'PY'
from racing import *

def at_once(call, text):
    pid = spawn(call)
    poll(lambda: os.waitpid(pid, os.WNOHANG) == (pid, 0), f"{text}: it waits, or fails")

def killed(call, text, unchanged):
    pid = spawn(call)
    check(blocked(pid, 2.0), f"{text}: it does not wait")
    unchanged(f"{text}, waiting")
    os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    equal(os.WIFSIGNALED(status) and os.WTERMSIG(status), signal.SIGKILL, f"{text} dies of SIGKILL")
    unchanged(f"{text}, killed")

def all_places(huge):
    unit = HUGE if huge else PAGE
    size, at = 4 * unit, unit
    base = os.statvfs(MNT).f_bfree
    f = make("f")
    fallocate(f, 0, 0, size)
    data = bytearray(pattern(size, 3))
    m = aligned_map(f, size)
    m.write(0, bytes(data))
    pins = []
    for n in range(9):
        data[at:at + 8] = b"round%03d" % n
        m.write(at, bytes(data[at:at + 8]))
        pins.append(PinnedPage(m, at))
        if n < 8:
            at_once(lambda: fallocate(f, PUNCH_HOLE | KEEP_SIZE, at, unit), f"punch {n}")
            equal(os.pread(f, unit, at).count(0), unit, f"hole {n}")
            data[at:at + unit] = bytes(unit)

    def unchanged(text):
        equal(os.fstat(f).st_size, size, f"{text}: size")
        equal(os.pread(f, size, 0), bytes(data), f"{text}: bytes")
        os.pwrite(f, bytes(data[:100]), 0)
    killed(lambda: fallocate(f, PUNCH_HOLE | KEEP_SIZE, at, unit), "a ninth punch", unchanged)
    killed(lambda: fallocate(f, COLLAPSE_RANGE, at, unit), "a collapse beside eight", unchanged)
    ninth = spawn(lambda: fallocate(f, PUNCH_HOLE | KEEP_SIZE, at, unit))
    check(blocked(ninth, 2.0), "a ninth punch does not wait")
    # One of the eight is let go, and not the one that the call waits for.
    equal(pins[3].release()[:8], b"round003", "what the fourth holder has")
    poll(lambda: os.waitpid(ninth, os.WNOHANG) == (ninth, 0), "the ninth punch goes on where the fourth was")
    data[at:at + unit] = bytes(unit)
    unchanged("after the ninth punch")
    for n in (8, 0, 7, 1, 6, 2, 5, 4):
        equal(pins[n].release()[:8], b"round%03d" % n, f"what holder {n} has")
    m.close()
    os.ftruncate(f, 0)
    os.close(f)
    os.unlink(path("f"))
    poll(lambda: os.statvfs(MNT).f_bfree == base, lambda: f"free blocks: {os.statvfs(MNT).f_bfree}, were {base}")

def places(_):
    all_places(False)

def huge_places(_):
    all_places(True)

def no_memory(_):
    size = 8 * PAGE
    base = os.statvfs(MNT).f_bfree
    f = make("g", data=pattern(size, 5))
    data = pattern(size, 5)
    m = Map(f, size)
    m.read(0, size)
    pin = PinnedPage(m, 3 * PAGE)

    def unchanged(text):
        equal((os.fstat(f).st_size, os.pread(f, size, 0)), (size, data), text)
    failing("move")
    killed(lambda: fallocate(f, PUNCH_HOLE | KEEP_SIZE, 2 * PAGE, 3 * PAGE), "a punch without memory", lambda text: equal(os.pread(f, PAGE, 3 * PAGE), data[3 * PAGE:4 * PAGE], text))
    os.pwrite(f, data, 0)
    killed(lambda: fallocate(f, COLLAPSE_RANGE, 2 * PAGE, 3 * PAGE), "a collapse without memory", unchanged)
    # A truncate needs none; growth over what it left behind does.
    at_once(lambda: os.ftruncate(f, 2 * PAGE), "truncate")
    grows = spawn(lambda: os.ftruncate(f, size))
    check(blocked(grows, 2.0), "growth over a held page does not wait")
    equal(os.fstat(f).st_size, 2 * PAGE, "size while growth waits")
    failing()
    poll(lambda: os.waitpid(grows, os.WNOHANG) == (grows, 0), "growth goes on when there is memory again")
    equal(os.pread(f, size, 0), data[:2 * PAGE] + bytes(6 * PAGE), "after growth")
    equal(pin.release(), data[3 * PAGE:4 * PAGE], "what the holder has")
    m.close()
    os.close(f)
    os.unlink(path("g"))
    poll(lambda: os.statvfs(MNT).f_bfree == base, lambda: f"free blocks: {os.statvfs(MNT).f_bfree}, were {base}")

for scenario in (places, huge_places, no_memory):
    run(scenario, options="dax=always,layout=defer")
PY
proved "the ninth hold of one page (4 KiB, 2 MiB) and one without memory make punch, collapse and growth wait killably, file unchanged, until there is a place again"
