# Only who removes a held page may have to wait: truncate, punch and collapse elsewhere in the file go on, and readers and writers of the rest beside one who waits.
# test-build
# only: ochre
# timeout: 240
. "$(dirname "$0")/lib.sh"
python3 - <<'PY'
from racing import *

WAIT, DEFER = "dax=always,layout=wait", "dax=always,layout=defer"

def elsewhere(unit, name):
    """The second page is held; a call is made for pages far behind it. It has nothing to wait for."""
    def carry_out(removed):
        size = 8 * unit
        f = make("f")
        fallocate(f, 0, 0, size)
        m = aligned_map(f, size)
        data = pattern(size, 3)
        m.write(0, data)
        if unit == HUGE:
            equal(huge_pages(m), size, "2 MiB pages mapped")
        held = PinnedPage(m, PAGE)
        call, want = {
            "truncate": (lambda: os.ftruncate(f, size - unit), data[:-unit]),
            "punch": (lambda: fallocate(f, PUNCH_HOLE | KEEP_SIZE, 4 * unit, unit), data[:4 * unit] + bytes(unit) + data[5 * unit:]),
            "collapse": (lambda: fallocate(f, COLLAPSE_RANGE, 4 * unit, unit), data[:4 * unit] + data[5 * unit:]),
            "insert": (lambda: fallocate(f, INSERT_RANGE, 4 * unit, unit), data[:4 * unit] + bytes(unit) + data[4 * unit:]),
        }[name]
        caller = Actor(call=call).start("call")
        if removed:
            caller.waits(f"{name} elsewhere, where all pages of the file are waited for (or the test is blind)", "wait_page_idle")
            os.kill(caller.pid, signal.SIGKILL)
            equal(caller.end(), signal.SIGKILL, "its end")
            want = data
        else:
            caller.done(f"{name} elsewhere")
        equal(os.fstat(f).st_size, len(want), f"size after {name}")
        equal(os.pread(f, len(want) + 1, 0), want, f"the file after {name}")
        equal(held.release(), data[PAGE:2 * PAGE], "what the holder finds")
    carry_out.__name__ = f"{name} elsewhere, {unit >> 10} KiB"
    return carry_out

for unit in (PAGE, HUGE):
    for name in ("truncate", "punch", "collapse", "insert"):
        removing(elsewhere(unit, name), "only-the-range", options=WAIT if name in ("truncate", "insert") else DEFER)

def beside(name):
    """A call waits for the held page; others use the rest of the file meanwhile."""
    def carry_out(removed):
        size = 16 * PAGE
        f = make("f", data=pattern(size, 4))
        m = Map(f, size)
        held = PinnedPage(m, 12 * PAGE)
        call = (lambda: os.ftruncate(f, 8 * PAGE)) if name == "truncate" else (lambda: fallocate(f, PUNCH_HOLE | KEEP_SIZE, 8 * PAGE, 8 * PAGE))
        waiter = Actor(call=call).start("call")
        waiter.waits(name, "wait_page_idle")
        user = Actor(
            read=lambda: equal(os.pread(f, PAGE, 0), pattern(size, 4)[:PAGE], "read"),
            write=lambda: equal(os.pwrite(f, pattern(PAGE, 4), 0), PAGE, "write"),
            load=lambda: equal(m.read(0, PAGE), pattern(size, 4)[:PAGE], "load"),
            store=lambda: m.write(0, pattern(PAGE, 4)),
            held=lambda: equal(m.read(12 * PAGE, 8), pattern(size, 4)[12 * PAGE:12 * PAGE + 8], "the held page itself"))
        if removed:
            user.start("read").waits("a read beside one who waits with i_rwsem (or the test is blind)")
        else:
            for deed in ("read", "write", "load", "store", "held"):
                user.do(deed)
                check(not waiter.has_answered(), f"{name} did not wait for its page")
        equal(held.release(), pattern(size, 4)[12 * PAGE:13 * PAGE], "what the holder finds")
        waiter.done(name)
        if removed:
            user.done("the read")
    carry_out.__name__ = f"readers beside a {name} that waits"
    return carry_out

for name in ("truncate", "punch"):
    removing(beside(name), "wait-unlocked", options=WAIT)
PY
proved "truncate, punch, collapse and insert elsewhere do not wait for a held page (4 KiB, 2 MiB), nor readers and writers of the rest for one who does; with the whole file looked at, or i_rwsem kept, each of them waits"
