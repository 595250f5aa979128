# What a write puts into a hole is not called new: its mappings of the zero page go when the bytes are published, not before they are copied.
# test-build
# only: ochre
# timeout: 180
. "$(dirname "$0")/lib.sh"
python3 - <<'PY'
from racing import *

def own_buffer(removed, huge=False):
    """A write whose buffer is a mapping of the very hole that it fills: unmapped before the copy, there is nothing to copy from, each time again."""
    size = HUGE if huge else PAGE
    f = make("f", 2 * size)
    m = aligned_map(f, 2 * size)
    libc.pwrite.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long]
    libc.pwrite.restype = ctypes.c_long
    with Faults() as faults:
        result = errno_name(lambda: equal(raise_errno(libc.pwrite(f, m.address, size, 0)), size, "bytes written"))
    if huge:
        check(faults.count("dax_pmd_load_hole") > 0, "no 2 MiB zero page")
    if removed:
        equal((result, os.fstat(f).st_blocks), ("EFAULT", 0), "unmapped too early the write makes no progress, or the test is blind")
    else:
        equal((result, os.fstat(f).st_blocks, os.pread(f, size, 0)), ("OK", size // 512, bytes(size)), "a write out of its own hole")

def own_huge_buffer(removed):
    own_buffer(removed, huge=True)

def reader(removed):
    """Someone who has the zero page goes on reading while the bytes are copied."""
    f = make("f", 4 * PAGE)
    m = Map(f, 4 * PAGE)
    user = Actor(read=lambda: m.read(0, 4))
    equal(user.do("read"), bytes(4), "the hole")
    writer = Actor(write=lambda: os.pwrite(f, b"W" * PAGE, 0))
    arm("write-copied", writer.pid)
    writer.start("write")
    wait_held("write-copied")
    user.start("read")
    if removed:
        user.waits("unmapped too early a reader has to wait for the write (or the test is blind)")
    else:
        equal(user.done(), bytes(4), "a reader during the write")
    go("write-copied")
    writer.done()
    if removed:
        user.done()
    equal(user.do("read"), b"WWWW", "a reader after the write")

removing(own_buffer, "never-new")
removing(own_huge_buffer, "never-new")
removing(reader, "never-new")
PY
proved "zero pages stay until a write has published its bytes: readers go on, and a write out of its own hole ends; called new, it is EFAULT, and readers wait"
