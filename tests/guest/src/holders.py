"""Strangers that hold a page of a file for as long as a test wants, each by a way that real programs use.

Every holder takes the page at an offset of a mapping, and has it when its constructor returns. `release()` lets go, and checks what
the holder found there, or puts `self.stored` into the page at that very moment (`stored` is None for those that only read).

Device I/O is held by dm-delay with an endless delay, which gives everything back when it is suspended; the copies of process_vm_readv and
process_vm_writev are held by a page of their own side that userfaultfd does not resolve before the release.
"""
import subprocess
import threading
import time

from ochretest import *

SLOW_DEVICE = os.environ.get("SLOW_DEVICE", "/dev/mapper/slow")
SLOW = int(os.environ.get("SLOW", "1"))


def wait_for(condition, text):
    end = time.monotonic() + 30 * SLOW
    while not condition():
        check(time.monotonic() < end, text)
        time.sleep(0.002)


class Holder:
    stored = None

    def __init__(self, m, offset, want):
        self.offset, self.before, self.want = offset, want, want


class Pipe(Holder):
    """vmsplice puts a reference to the page into a pipe."""

    def __init__(self, m, offset, want):
        super().__init__(m, offset, want)
        self.pin = PinnedPage(m, offset)

    def release(self):
        equal(self.pin.release(), self.want, "the pipe's bytes")


# --- I/O of a device that takes its time

def device_open(direct=True):
    return os.open(SLOW_DEVICE, os.O_RDWR | (os.O_DIRECT if direct else 0))


def in_flight():
    """What the device holds back; its status is three numbers: reads, writes, flushes."""
    status = subprocess.check_output(["dmsetup", "status", "slow"]).split()
    return sum(int(n) for n in status[3:6])


def device_lets_go():
    for command in (["suspend", "--nolockfs"], ["resume", "--noudevsync", "--noudevrules"]):
        subprocess.check_call(["dmsetup", *command, "slow"])


class Device(Holder):
    """What the device has under it (a ramdisk, at once) is what it will store, or was given."""
    writes = False

    def __init__(self, m, offset, want):
        super().__init__(m, offset, want)
        self.under = os.open("/dev/ram0", os.O_RDWR | os.O_DIRECT)
        with Map(-1, PAGE, MAP_PRIVATE | MAP_ANONYMOUS) as page:
            page.write(0, b"held" * (PAGE // 4))
            equal(raise_errno(libc.pwrite(self.under, ctypes.c_void_p(page.address), PAGE, 0)), PAGE, "preparing the device")
        self.buffer = m.address + offset
        if not self.writes:
            self.stored = b"held" * (PAGE // 4)
        equal(in_flight(), 0, "I/O in flight before")
        self.begin()
        wait_for(in_flight, f"{type(self).__name__}: its I/O does not begin")

    def release(self):
        device_lets_go()
        self.end()
        if self.writes:
            with Map(-1, PAGE, MAP_PRIVATE | MAP_ANONYMOUS) as page:
                equal(raise_errno(libc.pread(self.under, ctypes.c_void_p(page.address), PAGE, 0)), PAGE, "reading the device")
                equal(page.read(0, PAGE), self.want, "what the device got")
        os.close(self.under)


libc.pread.argtypes = libc.pwrite.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long]
libc.pread.restype = libc.pwrite.restype = ctypes.c_ssize_t


class DirectRead(Device):
    """O_DIRECT read(2) of another process: the device stores into the page."""

    def begin(self):
        def child():
            call = libc.pwrite if self.writes else libc.pread
            equal(raise_errno(call(device_open(), ctypes.c_void_p(self.buffer), PAGE, 0)), PAGE, "O_DIRECT")
        self.pid = spawn(child)

    def end(self):
        reap(self.pid, "O_DIRECT")


class DirectWrite(DirectRead):
    """O_DIRECT write(2): the device loads from the page."""
    writes = True


class UringRead(Device):
    """io_uring: nobody waits in a system call, and the mapping may go meanwhile."""
    opcode = 22

    def begin(self):
        self.ring = IoUring()
        self.device = device_open()
        self.ring.submit(self.opcode + self.writes, self.device, self.buffer, PAGE, 0)
        if self.ring.done():
            fail(f"io_uring: {self.ring.result()} at once")

    def end(self):
        equal(self.ring.result(), PAGE, "io_uring")
        self.ring.close()
        os.close(self.device)


class UringWrite(UringRead):
    writes = True


class IoUring:
    """One request at a time."""
    READ, WRITE = 22, 23

    def __init__(self, entries=4):
        params = ctypes.create_string_buffer(120)
        self.fd = raise_errno(libc.syscall(425, ctypes.c_uint(entries), params))
        self.sq_entries, self.cq_entries = struct.unpack_from("<II", params, 0)
        # struct io_sqring_offsets: head, tail, ring_mask, ring_entries, flags, dropped, array; io_cqring_offsets: head, tail, ring_mask, entries, overflow, cqes
        sq = struct.unpack_from("<7I", params, 40)
        cq = struct.unpack_from("<6I", params, 80)
        self.sq_tail, self.sq_mask, self.sq_array = sq[1], sq[2], sq[6]
        self.cq_head, self.cq_tail, self.cq_mask, self.cqes = cq[0], cq[1], cq[2], cq[5]
        self.sq = Map(self.fd, self.sq_array + 4 * self.sq_entries, MAP_SHARED | MAP_POPULATE, offset=0)
        self.cq = Map(self.fd, self.cqes + 16 * self.cq_entries, MAP_SHARED | MAP_POPULATE, offset=0x8000000)
        self.sqes = Map(self.fd, 64 * self.sq_entries, MAP_SHARED | MAP_POPULATE, offset=0x10000000)

    def _get(self, ring, offset):
        return struct.unpack("<I", ring.read(offset, 4))[0]

    def submit(self, opcode, fd, address, n, offset, flags=0):
        tail = self._get(self.sq, self.sq_tail)
        index = tail & self._get(self.sq, self.sq_mask)
        self.sqes.write(64 * index, struct.pack("<BBHiQQII32x", opcode, 0, 0, fd, offset, address, n, flags))
        self.sq.write(self.sq_array + 4 * index, struct.pack("<I", index))
        self.sq.write(self.sq_tail, struct.pack("<I", (tail + 1) & 0xFFFFFFFF))
        equal(raise_errno(libc.syscall(426, self.fd, 1, 0, 0, None, ctypes.c_size_t(0))), 1, "io_uring_enter")

    def done(self):
        return self._get(self.cq, self.cq_head) != self._get(self.cq, self.cq_tail)

    def result(self):
        """Of the next request that ends: its result, or -errno."""
        while not self.done():
            raise_errno(libc.syscall(426, self.fd, 0, 1, 1, None, ctypes.c_size_t(0)))
        head = self._get(self.cq, self.cq_head)
        _, result, _ = struct.unpack("<QiI", self.cq.read(self.cqes + 16 * (head & self._get(self.cq, self.cq_mask)), 16))
        self.cq.write(self.cq_head, struct.pack("<I", (head + 1) & 0xFFFFFFFF))
        return result

    def close(self):
        for m in (self.sq, self.cq, self.sqes):
            m.close()
        os.close(self.fd)


# --- process_vm_readv and process_vm_writev, whose own side is not there yet

class IoVec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]


class VmRead(Holder):
    """process_vm_readv of another process, which stops in the middle of its copy with our page pinned."""
    call = 310

    def __init__(self, m, offset, want):
        super().__init__(m, offset, want)
        self.there = m.address + offset
        self.to_child, self.from_child = os.pipe(), os.pipe()
        self.parent = os.getpid()
        self.pid = spawn(self.child)
        equal(os.read(self.from_child[0], 1), b"h", "it holds the page")

    def child(self):
        own = Map(-1, PAGE, MAP_PRIVATE | MAP_ANONYMOUS)
        fault_fd = raise_errno(libc.syscall(323, 0o2000000))
        api = bytearray(struct.pack("<QQQ", 0xAA, 0, 0))
        fcntl.ioctl(fault_fd, 0xC018AA3F, api)
        fcntl.ioctl(fault_fd, 0xC020AA00, bytearray(struct.pack("<QQQQ", own.address, PAGE, 1, 0)))
        result = []

        def copy():
            local, remote = IoVec(own.address, PAGE), IoVec(self.there, PAGE)
            result.append(libc.syscall(self.call, self.parent, ctypes.byref(local), ctypes.c_ulong(1), ctypes.byref(remote), ctypes.c_ulong(1), ctypes.c_ulong(0)))
        thread = threading.Thread(target=copy)
        thread.start()
        os.read(fault_fd, 32)  # the copy has met the page that is not there
        os.write(self.from_child[1], b"h")
        os.read(self.to_child[0], 1)
        source = Map(-1, PAGE, MAP_PRIVATE | MAP_ANONYMOUS)
        source.write(0, self.stored or bytes(PAGE))
        fcntl.ioctl(fault_fd, 0xC028AA03, bytearray(struct.pack("<QQQQq", own.address, source.address, PAGE, 0, 0)))
        thread.join()
        equal(result[0], PAGE, type(self).__name__)
        os.write(self.from_child[1], own.read(0, PAGE))

    def release(self):
        os.write(self.to_child[1], b"g")
        found, want = os.read(self.from_child[0], PAGE), self.stored or self.want
        # The first bytes were loaded before the fault that stopped the copy.
        equal(found[64:], want[64:], f"{type(self).__name__}: what it copied")
        check(all(found[i:i + 8] in (want[i:i + 8], self.before[i:i + 8]) for i in range(0, 64, 8)), f"{type(self).__name__}: what it copied first: {found[:64]}")
        reap(self.pid, type(self).__name__)
        for fd in self.to_child + self.from_child:
            os.close(fd)


class VmWrite(VmRead):
    """process_vm_writev: stores into our page when it goes on."""
    call = 311
    stored = b"vmwr" * (PAGE // 4)


ALL = (Pipe, DirectRead, DirectWrite, UringRead, UringWrite, VmRead, VmWrite)
