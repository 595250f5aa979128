# Long-term pins of mapped pages (io_uring's registered buffers) are refused and leave no reference behind; short ones (process_vm_readv) come and go.
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

ring = setup_ring()
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
for line in open("/sys/kernel/debug/ochre-pmem0/layout"):
    if line.startswith("waits") or line.startswith("pending"):
        equal(line.split()[1], "0", line.strip())
PY
proved "io_uring's registered buffers are refused for mapped pages, 4 KiB and 2 MiB; neither they nor process_vm_readv leave a reference that truncate or punch would wait for"
