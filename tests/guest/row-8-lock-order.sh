# write(2) from a buffer that is mapped from the same file, or crosswise from another that is written as well: nobody waits in a circle. With faults in the copy, or i_rwsem in faults, they do.
# test-build
# only: ochre
# timeout: 240
. "$(dirname "$0")/lib.sh"
python3 - <<'PY'
from racing import *

libc.pwrite.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long]
libc.pwrite.restype = ctypes.c_ssize_t

def pwrite(f, m, at, n, offset):
    """From a mapping, with no copy of it in between; a page that is not there is met by the kernel."""
    equal(raise_errno(libc.pwrite(f, ctypes.c_void_p(m.address + at), n, offset)), n, "bytes written")

def killed(actor):
    os.kill(actor.pid, signal.SIGKILL)
    equal(actor.end(), signal.SIGKILL, "its end")

def same_page(removed):
    """The buffer is a mapping of the hole that the write is about to fill, and goes on behind it."""
    f = make("f", data=b"")
    os.pwrite(f, b"next" * (PAGE // 4), PAGE)
    m = Map(f, 2 * PAGE)
    writer = Actor(write=lambda: pwrite(f, m, PAGE // 2, PAGE, 0)).start("write")
    if removed:
        writer.waits("a write that faults on the range that it has claimed", "dax_iomap_rw")
        killed(writer)
        return
    writer.done("the write")
    want = bytes(PAGE // 2) + b"next" * (PAGE // 8)
    equal(os.pread(f, PAGE, 0), want, "the page")
    equal(m.read(0, PAGE), want, "the page, mapped")

removing(same_page, "copy-without-faults")

def torn_away(removed):
    """The page of the buffer goes each time between its being made present and the copy. That is no reason for EFAULT."""
    f, g = make("f", data=b""), make("g", data=pattern(2 * PAGE))
    m = Map(g, 2 * PAGE)
    m.read(0, 2 * PAGE)
    writer = Actor(write=lambda: pwrite(f, m, 100, PAGE, 0))
    arm("write-reserved", writer.pid)
    writer.start("write")
    for _ in range(5):
        wait_held("write-reserved")
        fallocate(g, PUNCH_HOLE | KEEP_SIZE, 0, 2 * PAGE)
        arm("fault-checked", writer.pid)
        go("write-reserved")
        wait_held("fault-checked")
        arm("write-reserved", writer.pid)
        go("fault-checked")
    wait_held("write-reserved")
    go("write-reserved")
    writer.done("the write")
    equal(os.pread(f, PAGE, 0), bytes(PAGE), "the file")

run(torn_away)

def huge_same_page(removed):
    """The same with a range and a buffer of 2 MiB."""
    f = make("f")
    os.ftruncate(f, 2 * HUGE)
    os.pwrite(f, b"next" * (HUGE // 4), HUGE)
    m = aligned_map(f, 2 * HUGE)
    writer = Actor(write=lambda: pwrite(f, m, HUGE // 2, HUGE, 0)).start("write")
    if removed:
        writer.waits("a write that faults on the range that it has claimed", "dax_iomap_rw")
        killed(writer)
        return
    writer.done("the write")
    equal(m.read(0, 2 * HUGE), bytes(HUGE // 2) + b"next" * (HUGE // 8 + HUGE // 4), "the file, mapped")

removing(huge_same_page, "copy-without-faults")

def crosswise(removed):
    """Two writes, each with its buffer in the hole that the other fills."""
    files = [make(name, data=b"") for name in "fg"]
    for n, f in enumerate(files):
        os.pwrite(f, b"%d..." % n * (PAGE // 4), PAGE)
    maps = [Map(f, 2 * PAGE) for f in files]
    first = Actor(write=lambda: pwrite(files[0], maps[1], PAGE // 2, PAGE, 0))
    second = Actor(write=lambda: pwrite(files[1], maps[0], PAGE // 2, PAGE, 0))
    arm("write-reserved", first.pid)
    first.start("write")
    wait_held("write-reserved")
    second.start("write")
    second.waits("the second write, for the claim of the first", "dax_iomap_rw" if removed else "fault_in")
    if not removed:
        check("dax_iomap_rw" not in second.stack(), f"it waits with a claim of its own: {second.stack()}")
    go("write-reserved")
    if removed:
        first.waits("the first write, for the claim of the second", "dax_iomap_rw")
        second.waits("and the second for the first", "dax_iomap_rw")
        killed(second)  # ends it
        first.done("the first write")
        return
    first.done("the first write")
    second.done("the second write")
    half = bytes(PAGE // 2)
    zero, one = (os.pread(f, PAGE, 0) for f in files)
    equal(zero, half + b"1..." * (PAGE // 8), "the page of the first write")
    # It may have been there when the second write came to copy it.
    check(one in (half + b"0..." * (PAGE // 8), zero[PAGE // 2:] + b"0..." * (PAGE // 8)), "the page of the second write")
    check([m.read(0, PAGE) for m in maps] == [zero, one], "the pages, mapped")

removing(crosswise, "copy-without-faults")

def rwsem(removed):
    """The buffer is elsewhere in the file that is written, and its page has to be faulted in while the write has i_rwsem."""
    f = make("f", data=b"buff" * (2 * PAGE // 4))
    m = Map(f, 2 * PAGE)
    writer = Actor(write=lambda: pwrite(f, m, PAGE, PAGE, 4 * PAGE)).start("write")
    if removed:
        looks = []
        def stuck():
            # It looks at the semaphore again and again (src/testing.rs), so it is not always asleep.
            stack = writer.stack()
            looks.append("fault_in" in stack and "ochre" in stack)
            return writer.has_answered() or sum(looks) > 100
        poll(stuck, lambda: f"a fault that wants i_rwsem: {writer.stack()}, {writer.has_answered()}")
        check(not writer.has_answered(), "a fault that wants i_rwsem did not hinder the write: the test is blind")
        killed(writer)
        return
    writer.done("the write")
    equal(os.pread(f, PAGE, 4 * PAGE), b"buff" * (PAGE // 4), "the page")

removing(rwsem, "no-rwsem-in-faults")
PY
proved "a write whose buffer is mapped from the range it fills (4 KiB, 2 MiB), two whose buffers are crosswise, and one with its buffer elsewhere in its file all end; with faults in the copy, or i_rwsem in the fault, each is a deadlock"
