"""What the guest tests need of the kernel and Python lacks: raw mmap, a few system calls, fault counters."""
import ctypes
import errno
import fcntl
import os
import random
import signal
import struct
import sys
import time

MNT = os.environ.get("MNT", "/mnt")
FSTYPE = os.environ.get("FSTYPE", "ochre")
PAGE = 4096
HUGE = 2 << 20
MIB = 1 << 20

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.msync.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.syscall.restype = ctypes.c_long

PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4
MAP_SHARED, MAP_PRIVATE, MAP_SHARED_VALIDATE, MAP_FIXED = 1, 2, 3, 0x10
MAP_ANONYMOUS, MAP_POPULATE, MAP_SYNC = 0x20, 0x8000, 0x80000
MS_ASYNC, MS_SYNC = 1, 4
KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE, INSERT_RANGE = 1, 2, 8, 16, 32
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
AT_FDCWD, AT_EMPTY_PATH = -100, 0x1000


def path(name):
    return os.path.join(MNT, name)


def fail(text):
    print("FAILED:", text)
    sys.stdout.flush()
    os._exit(1)


def check(condition, text):
    if not condition:
        fail(text)


def equal(got, want, text):
    if got != want:
        show = lambda v: f"{v[:24]!r}… ({len(v)} bytes)" if isinstance(v, (bytes, bytearray)) and len(v) > 24 else repr(v)
        fail(f"{text}: got {show(got)}, wanted {show(want)}")


def errno_name(call):
    """The name of the errno that the call raises, or "OK"."""
    try:
        call()
        return "OK"
    except OSError as e:
        # 95 has two names; Python knows it by the other one
        return {95: "EOPNOTSUPP"}.get(e.errno) or errno.errorcode.get(e.errno, str(e.errno))


def refused(want, call, text):
    got = errno_name(call)
    if got != want:
        fail(f"{text}: got {got}, wanted {want}")


def seed():
    """A random generator whose seed is printed, and taken from SEED= to repeat a run."""
    s = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"seed {s} (SEED={s} repeats it)")
    sys.stdout.flush()
    return random.Random(s)


def raise_errno(result):
    if result == -1:
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e))
    return result


def fallocate(fd, mode, offset, length):
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
    raise_errno(libc.fallocate(fd, mode, offset, length))


def renameat2(old, new, flags):
    raise_errno(libc.syscall(316, AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), ctypes.c_uint(flags)))


def link_open_file(fd, new):
    raise_errno(libc.linkat(AT_FDCWD, f"/proc/self/fd/{fd}".encode(), AT_FDCWD, os.fsencode(new), 0x400))


def mount_new(dev, at, options, fstype=None):
    raise_errno(libc.mount(os.fsencode(dev), os.fsencode(at), (fstype or FSTYPE).encode(), 0, options.encode()))


def pattern(n, salt=0):
    """n bytes that repeat nowhere near: every 8 bytes hold their own number."""
    return struct.pack(f"<{(n + 7) // 8}Q", *range(salt << 32, (salt << 32) + (n + 7) // 8))[:n]


class Map:
    """A raw mapping. Touching a page that has no file behind it kills the process, as it would in C; probe() asks without dying."""

    def __init__(self, fd, length, flags=MAP_SHARED, prot=PROT_READ | PROT_WRITE, offset=0, at=None):
        a = libc.mmap(at, length, prot, flags, fd, offset)
        if a in (None, ctypes.c_void_p(-1).value):
            e = ctypes.get_errno()
            raise OSError(e, os.strerror(e))
        self.address, self.length, self.room = a, length, None

    def read(self, offset, n):
        return ctypes.string_at(self.address + offset, n)

    def write(self, offset, data):
        ctypes.memmove(self.address + offset, bytes(data), len(data))

    def probe(self, offset):
        """Whether the byte can be read: pipe write reports a bad page as EFAULT."""
        r, w = os.pipe()
        try:
            n = libc.write(w, ctypes.c_void_p(self.address + offset), ctypes.c_size_t(1))
            return n == 1
        finally:
            os.close(r)
            os.close(w)

    def sync(self, offset=0, n=None, flags=MS_SYNC):
        raise_errno(libc.msync(self.address + offset, self.length if n is None else n, flags))

    def advise(self, advice, offset=0, n=None):
        raise_errno(libc.madvise(self.address + offset, self.length if n is None else n, advice))

    def close(self):
        whole = self.room or self
        libc.munmap(whole.address, whole.length)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def aligned_map(fd, length, flags=MAP_SHARED, prot=PROT_READ | PROT_WRITE, offset=0):
    """A mapping at an address where 2 MiB pages of the file can be mapped."""
    room = Map(-1, length + 2 * HUGE, MAP_PRIVATE | MAP_ANONYMOUS, 0)
    start = (room.address + HUGE - 1) // HUGE * HUGE + offset % HUGE
    m = Map(fd, length, flags | MAP_FIXED, prot, offset, start)
    m.room = room
    return m


def signal_of(child):
    """Runs child() in a forked process; the signal that killed it, or 0."""
    pid = os.fork()
    if pid == 0:
        try:
            child()
        finally:
            os._exit(0)
    status = os.waitpid(pid, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def spawn(child):
    """Forks; child() returning is exit status 0, an exception 1. Returns the pid."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            child()
            sys.stdout.flush()
            os._exit(0)
        except BaseException as e:
            print("child:", repr(e))
            sys.stdout.flush()
            os._exit(1)
    return pid


def reap(pid, text):
    status = os.waitpid(pid, 0)[1]
    if status:
        fail(f"{text}: the child ended with status {status:#x}")


def blocked(pid, how_long=5.0):
    """Waits until the process sleeps without having ended (state S or D, twice in a row), or fails. No guess about speed: it polls."""
    import time
    end = time.monotonic() + how_long
    asleep = 0
    while time.monotonic() < end:
        with open(f"/proc/{pid}/stat") as f:
            state = f.read().rsplit(")", 1)[1].split()[0]
        if state == "Z":
            return False
        asleep = asleep + 1 if state in "SD" else 0
        if asleep >= 10:
            return True
        time.sleep(0.05)
    return True


# --- where data lies

def extents(fd):
    """FIEMAP: (logical, physical, length, flags) of every extent."""
    out, start = [], 0
    while True:
        head = bytearray(struct.pack("<QQIIII", start, (1 << 63) - 1 - start, 1, 0, 64, 0) + bytes(56 * 64))
        fcntl.ioctl(fd, 0xC020660B, head)
        n = struct.unpack_from("<I", head, 20)[0]
        for i in range(n):
            logical, physical, length = struct.unpack_from("<QQQ", head, 32 + 56 * i)
            flags = struct.unpack_from("<I", head, 32 + 56 * i + 40)[0]
            out.append((logical, physical, length, flags))
            start = logical + length
            if flags & 1:
                return out
        if n == 0:
            return out


UNWRITTEN = 0x800


def huge_pages(m):
    """PAGEMAP_SCAN: how many bytes of the mapping sit on present 2 MiB entries of the page table."""
    class Arg(ctypes.Structure):
        _fields_ = [(n, ctypes.c_uint64) for n in (
            "size", "flags", "start", "end", "walk_end", "vec", "vec_len", "max_pages",
            "category_inverted", "category_mask", "category_anyof_mask", "return_mask")]
    huge, present = 1 << 6, 1 << 3
    vec = (ctypes.c_uint64 * (3 * 4096))()
    arg = Arg(96, 0, m.address, m.address + m.length, 0, ctypes.addressof(vec), 4096, 0, 0, huge | present, 0, huge | present)
    with open("/proc/self/pagemap", "rb") as f:
        n = fcntl.ioctl(f, 0xC0606610, arg)
    return sum(vec[3 * i + 1] - vec[3 * i] for i in range(n))


# --- counting faults by the kernel's own tracepoints

class Faults:
    """Counts fs_dax tracepoints of this process while it is active; .count(name, text) afterwards."""

    root = "/sys/kernel/tracing"

    def __enter__(self):
        if not os.path.isdir(self.root + "/events/fs_dax"):
            libc.mount(b"tracefs", self.root.encode(), b"tracefs", 0, None)
        self._put("tracing_on", "0")
        self._put("buffer_size_kb", "4096")
        self._put("trace", "")
        self._put("events/fs_dax/enable", "1")
        self._put("tracing_on", "1")
        return self

    def __exit__(self, *_):
        self._put("tracing_on", "0")
        self._put("events/fs_dax/enable", "0")
        with open(self.root + "/trace") as f:
            self.lines = [line for line in f if not line.startswith("#")]
        self._put("trace", "")

    def _put(self, name, value):
        with open(f"{self.root}/{name}", "w") as f:
            f.write(value)

    def count(self, event, text=""):
        return sum(1 for line in self.lines if f" {event}: " in line and text in line)


# --- file handles

class FileHandle(ctypes.Structure):
    _fields_ = [("handle_bytes", ctypes.c_uint), ("handle_type", ctypes.c_int), ("data", ctypes.c_ubyte * 128)]


def name_to_handle(name, flags=0):
    h, mount_id = FileHandle(128), ctypes.c_int()
    raise_errno(libc.name_to_handle_at(AT_FDCWD, os.fsencode(name), ctypes.byref(h), ctypes.byref(mount_id), flags))
    return h


def open_handle(mount_fd, handle, flags=os.O_RDONLY):
    return raise_errno(libc.open_by_handle_at(mount_fd, ctypes.byref(handle), flags))


# --- statx, for the birth time

def statx(name, flags=0):
    """(mask, attributes, btime in ns)"""
    buf = ctypes.create_string_buffer(256)
    raise_errno(libc.syscall(332, AT_FDCWD, os.fsencode(name), flags, 0xFFF, buf))
    mask, _, attributes = struct.unpack_from("<IIQ", buf, 0)
    sec, nsec = struct.unpack_from("<qI", buf, 80)
    return mask, attributes, sec * 10**9 + nsec


# --- holding a page: vmsplice puts a reference to the mapped page itself into a pipe

class PinnedPage:
    def __init__(self, m, offset, n=PAGE, pipe=None):
        self.r, self.w = pipe or os.pipe()

        class IoVec(ctypes.Structure):
            _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]
        iov = IoVec(m.address + offset, n)
        libc.vmsplice.restype = ctypes.c_ssize_t
        libc.vmsplice.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint]
        equal(raise_errno(libc.vmsplice(self.w, ctypes.byref(iov), 1, 0)), n, "vmsplice")
        self.n = n

    def release(self):
        """Reads the bytes out of the pipe, which drops the page."""
        data = b""
        while len(data) < self.n:
            data += os.read(self.r, self.n - len(data))
        os.close(self.r)
        os.close(self.w)
        return data


def held_pages(f):
    """8 MiB of 2 MiB pages, of which pipes hold three: a punch and a truncate do not wait, holders see what they had, all blocks come back."""
    size = 8 * MIB
    os.ftruncate(f, size)
    fallocate(f, 0, 0, size)
    m = aligned_map(f, size)
    data = pattern(size)
    m.write(0, data)
    equal(huge_pages(m), size, "bytes on 2 MiB entries")
    pins = {at: PinnedPage(m, at) for at in (MIB, 3 * MIB, 7 * MIB)}
    m.close()
    fallocate(f, PUNCH_HOLE | KEEP_SIZE, 0, 2 * MIB)
    os.ftruncate(f, 6 * MIB)
    os.ftruncate(f, size)
    os.pwrite(f, b"new" * 100, MIB)
    want = bytearray(2 * MIB) + data[2 * MIB:6 * MIB] + bytes(2 * MIB)
    want[MIB:MIB + 300] = b"new" * 100
    equal(os.pread(f, size, 0), bytes(want), "beside held pages")
    for at, pin in pins.items():
        equal(pin.release(), data[at:at + PAGE], f"what somebody holds of byte {at}")
    for _ in range(400):
        if os.fstat(f).st_blocks == (4 * MIB + PAGE) // 512:
            break
        time.sleep(0.05)
    equal(os.fstat(f).st_blocks, (4 * MIB + PAGE) // 512, "sectors after the release")
    equal(os.pread(f, size, 0), bytes(want), "after the release")


# --- superblocks, for tests that need one from the future or a damaged one

def _key(index):
    """Key `index` of superblock checksums (docs/format.md)."""
    m = (1 << 64) - 1

    def mix(x):
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & m
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB & m
        return x ^ (x >> 31)
    return mix(mix((index + 1) * 0x9E3779B97F4A7C15 & m)) | 1


def patch_superblock(dev, offset, value):
    """Sets the 32-bit word at byte `offset` of the superblock and of its copy, and corrects their checksums (which are linear)."""
    fd = os.open(dev, os.O_RDWR | os.O_EXCL)
    size = os.lseek(fd, 0, os.SEEK_END)
    for at in (0, size // PAGE * PAGE - PAGE):
        sb = bytearray(os.pread(fd, 512, at))
        if sb[:8] != b"OCHREFS1":
            fail(f"no superblock at byte {at} of {dev}")
        old, = struct.unpack_from("<I", sb, offset)
        checksum, = struct.unpack_from("<Q", sb, 8)
        struct.pack_into("<Q", sb, 8, (checksum + _key(offset // 4) * (value - old)) % (1 << 64))
        struct.pack_into("<I", sb, offset, value)
        os.pwrite(fd, sb, at)
    os.fsync(fd)
    os.close(fd)
