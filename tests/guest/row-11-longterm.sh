# Long-term pins of mapped pages (io_uring's registered buffers, rings in a file's pages; gup_test where the kernel has it) are refused and leave no reference behind; short ones come and go.
# only: ochre
. "$(dirname "$0")/lib.sh"
mount_fs $DEV $MNT layout=wait
[ -d /sys/kernel/debug/ochre-pmem0 ] || mount -t debugfs none /sys/kernel/debug
python3 - <<'PY'
from ochretest import *

class IoVec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]

def setup_ring():
    params = ctypes.create_string_buffer(120)
    return raise_errno(libc.syscall(425, ctypes.c_uint(8), params))

def register(ring, address, n):
    raise_errno(libc.syscall(427, ctypes.c_int(ring), ctypes.c_uint(0), ctypes.byref(IoVec(address, n)), ctypes.c_uint(1)))

def ring_in(address):
    """A ring whose own memory the caller gives (IORING_SETUP_NO_MMAP): sq_off.user_addr and cq_off.user_addr."""
    params = bytearray(120)
    struct.pack_into("<I", params, 8, 1 << 14)
    struct.pack_into("<Q", params, 72, address + PAGE)
    struct.pack_into("<Q", params, 112, address)
    return raise_errno(libc.syscall(425, ctypes.c_uint(4), (ctypes.c_char * 120).from_buffer(params)))

def buffer_ring(ring, address):
    """IORING_REGISTER_PBUF_RING: 64 entries of 16 bytes at `address`."""
    raise_errno(libc.syscall(427, ctypes.c_int(ring), ctypes.c_uint(22), struct.pack("<QIHH24x", address, 64, 1, 0), ctypes.c_uint(1)))

GUP_TEST = os.open("/sys/kernel/debug/gup_test", os.O_RDWR) if os.path.exists("/sys/kernel/debug/gup_test") else None
FOLL_WRITE = 1

def gup(command, address, n, flags=FOLL_WRITE):
    """How many bytes were pinned, and unpinned."""
    arg = bytearray(struct.pack("<QQQQIII36x", 0, 0, address, n, n // PAGE, flags, 0))
    fcntl.ioctl(GUP_TEST, 0xC0506700 | command, arg)
    return struct.unpack_from("<Q", arg, 24)[0]

def gup_longterm(address, n, flags):
    try:
        fcntl.ioctl(GUP_TEST, 0x40186707, struct.pack("<QQI4x", address, n, flags))
    finally:
        fcntl.ioctl(GUP_TEST, 0x6708)

def gup_tests(m, offset, n):
    GET_FAST, PIN_FAST, LONGTERM, GET, PIN = 1, 2, 3, 4, 5
    for command in (GET_FAST, PIN_FAST, GET, PIN):
        for flags in (0, FOLL_WRITE):
            equal(gup(command, m.address + offset, n, flags), n, f"gup_test {command}, flags {flags}")
    check(gup(LONGTERM, m.address + offset, n) != n or not pinned_longterm(m, offset, n), "gup_test pins for long")
    for flags in range(4):
        name = errno_name(lambda: gup_longterm(m.address + offset, n, flags))
        check(name in ("EOPNOTSUPP", "EFAULT"), f"gup_test's long-term pin with flags {flags}: {name}")

def pinned_longterm(m, offset, n):
    """gup_test's benchmark says `n` also of a first call that got nothing; then its other test says what it got."""
    return errno_name(lambda: gup_longterm(m.address + offset, n, 1)) == "OK"

ring = setup_ring()
os.close(ring_in(Map(-1, 2 * PAGE, MAP_PRIVATE | MAP_ANONYMOUS).address))  # these calls work, too
buffer_ring(ring, Map(-1, PAGE, MAP_PRIVATE | MAP_ANONYMOUS).address)
anonymous = Map(-1, 4 * PAGE, MAP_PRIVATE | MAP_ANONYMOUS)
register(ring, anonymous.address, 4 * PAGE)  # the call as such works
os.close(ring)
for size, offset, n in ((16 * PAGE, 4 * PAGE, 4 * PAGE), (4 * MIB, 2 * MIB, MIB)):
    f = os.open(path("f"), os.O_RDWR | os.O_CREAT)
    fallocate(f, 0, 0, size)
    m = aligned_map(f, size)
    m.write(0, pattern(size))
    ring = setup_ring()
    name = errno_name(lambda: register(ring, m.address + offset, n))
    check(name in ("EOPNOTSUPP", "EFAULT"), f"registered buffers in a mapped file: {name}")
    for what, call in (("a ring in a mapped file", lambda: ring_in(m.address + offset)), ("a buffer ring there", lambda: buffer_ring(setup_ring(), m.address + offset))):
        name = errno_name(call)
        check(name in ("EOPNOTSUPP", "EFAULT"), f"{what}: {name}")
    m.write(0, pattern(size))
    if GUP_TEST:
        gup_tests(m, offset, n)
    # Another process reads the pages by their addresses.
    me = os.getpid()
    def reader():
        there = ctypes.create_string_buffer(n)
        local, remote = IoVec(ctypes.addressof(there), n), IoVec(m.address + offset, n)
        got = raise_errno(libc.syscall(310, ctypes.c_int(me), ctypes.byref(local), ctypes.c_ulong(1), ctypes.byref(remote), ctypes.c_ulong(1), ctypes.c_ulong(0)))
        equal((got, there.raw), (n, pattern(size)[offset:offset + n]), "process_vm_readv")
    reap(spawn(reader), "process_vm_readv")
    # No reference is left: with layout=wait, any would hold these up.
    child = spawn(lambda: fallocate(f, PUNCH_HOLE | KEEP_SIZE, offset, n))
    reap(child, "punch")
    reap(spawn(lambda: os.ftruncate(f, 0)), "truncate")
    os.close(ring)
    m.close()
    os.close(f)
# Pins come and go while the file shrinks, gets holes and grows. (With pauses: who waits for pages waits until there is a moment without a pin.)
if GUP_TEST:
    import time
    f = os.open(path("f"), os.O_RDWR | os.O_CREAT)
    os.ftruncate(f, 4 * MIB)
    m = aligned_map(f, 4 * MIB)
    rnd = seed()
    def pinner(command):
        def loop():
            while True:
                gup(command, m.address + rnd.randrange(1000) * PAGE, 24 * PAGE)
                time.sleep(0.02)
        return loop
    pinners = [spawn(pinner(command)) for command in (2, 5)]
    for i in range(10):
        fallocate(f, 0, 0, 4 * MIB)
        m.write(0, b"x" * 4 * MIB)
        fallocate(f, PUNCH_HOLE | KEEP_SIZE, (i % 3) * MIB + PAGE, MIB)
        os.ftruncate(f, (i % 5) * PAGE)
        os.ftruncate(f, 4 * MIB)
        equal(os.pread(f, 4 * MIB, 0)[(i % 5) * PAGE:].count(0), 4 * MIB - (i % 5) * PAGE, "zeros after a truncate under pins")
    for pid in pinners:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    os.ftruncate(f, 0)
    waits = "some"  # of the calls above may have met a pin
else:
    waits = "0"
for line in open("/sys/kernel/debug/ochre-pmem0/layout"):
    if line.startswith("pending") or (line.startswith("waits") and waits == "0"):
        equal(line.split()[1], "0", line.strip())
print("with" if GUP_TEST else "without", "gup_test")
PY
proved "io_uring's registered buffers, rings and buffer rings$([ ! -e /sys/kernel/debug/gup_test ] || echo ", and gup_test's long-term pins,") are refused for mapped pages, 4 KiB and 2 MiB; neither they nor short pins leave a reference that truncate or punch would wait for"
