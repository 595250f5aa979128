"""Mounts damaged filesystems one after the other and works on them: badimages.py PACK DEVICE COUNT (0: as many as 40 s allow).

The pack (tools/mutate/src/pack.rs) holds each sound filesystem once and each damaged one as the bytes that differ. Per image:
restore the device, damage it, mount, read everything, change what there is to change, unmount. A child does the work, so that
one that hangs is seen and one that a SIGBUS ends (a mapping of a damaged file) is no harm."""
import mmap
import signal
import stat
import struct
import time
from ochretest import *

BUDGET = 40
ALLOWED = {errno.EUCLEAN, errno.EIO, errno.EROFS}
# What single calls may also say of names and kinds that damage has changed, or that the work itself has.
ALSO = {errno.EEXIST, errno.ENOENT, errno.ENOTEMPTY, errno.EINVAL, errno.EXDEV, errno.ENOTDIR, errno.EISDIR, errno.EFBIG,
        errno.EMLINK, errno.EPERM, errno.ENXIO, errno.ELOOP, errno.EBUSY}
REFUSAL = {errno.EUCLEAN, errno.EIO, errno.EINVAL, errno.EROFS}
libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]


class Pack:
    def __init__(self, name):
        self.bytes = open(name, "rb").read()
        self.at = 8
        check(self.bytes[:8] == b"OBADIMG1", "a pack")
        self.bases = [self.base() for _ in range(self.take("<I"))]
        self.count = self.take("<I")

    def take(self, form):
        (value,) = struct.unpack_from(form, self.bytes, self.at)
        self.at += struct.calcsize(form)
        return value

    def data(self, n):
        self.at += n
        return self.bytes[self.at - n:self.at]

    def base(self):
        size, whole, pages = self.take("<Q"), self.take("<Q"), self.take("<I")
        image = mmap.mmap(-1, size)
        parts = [(0, whole)]
        for _ in range(pages):
            start = self.take("<Q") * PAGE
            image[start:start + PAGE] = self.data(PAGE)
            if start < whole:
                continue
            if sum(parts[-1]) == start:
                parts[-1] = (parts[-1][0], parts[-1][1] + PAGE)
            else:
                parts.append((start, PAGE))
        return image, parts

    def image(self):
        base, seed = self.take("<I"), self.take("<Q")
        text = self.data(self.take("<H")).decode()
        paths = [self.data(self.take("<H")) for _ in range(self.take("<I"))]
        writes = [(self.take("<Q"), self.data(self.take("<I"))) for _ in range(self.take("<I"))]
        return base, seed, text, paths, writes


def put(device, image, start, length):
    with memoryview(image) as view:
        done = 0
        while done < length:
            with view[start + done:start + length] as part:
                done += os.pwrite(device, part, start + done)


def restore(device, base, writes):
    image, parts = base
    for start, length in parts:
        put(device, image, start, length)
    old = [(at, image[at:at + len(data)]) for at, data in writes]
    for at, data in writes:
        image[at:at + len(data)] = data
    for at, data in writes:
        first, last = at // PAGE * PAGE, (at + len(data) + PAGE - 1) // PAGE * PAGE
        put(device, image, first, last - first)
    for at, data in reversed(old):
        image[at:at + len(data)] = data


class Work:
    """An ordinary workload that notes every error."""

    def __init__(self, hurt):
        self.hurt = hurt
        self.errors = {}
        self.bad = []
        self.names = []

    def do(self, what, call, *args):
        try:
            return call(*args)
        except OSError as error:
            code = error.errno
            self.errors[code] = self.errors.get(code, 0) + 1
            if code not in ALLOWED and code not in ALSO:
                self.bad.append(f"{what}: {error}")
        return None

    def walk(self, top):
        todo, seen = [top], set()
        while todo:
            folder = todo.pop()
            names = self.do("list", os.listdir, folder)
            for name in names or []:
                full = folder + b"/" + name
                status = self.do("lstat", os.lstat, full)
                if status is None:
                    continue
                self.names.append(full)
                if stat.S_ISDIR(status.st_mode):
                    if status.st_ino not in seen:
                        seen.add(status.st_ino)
                        todo.append(full)
                elif stat.S_ISLNK(status.st_mode):
                    self.do("readlink", os.readlink, full)
                elif stat.S_ISREG(status.st_mode) and status.st_size:
                    self.do("read", self.read, full, status.st_size)

    @staticmethod
    def read(full, size):
        f = os.open(full, os.O_RDONLY)
        try:
            for at in {0, min(size, 1 << 40) // 2, max(0, size - 5000)}:
                os.pread(f, 16384, at)
            try:
                os.lseek(f, 0, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
        finally:
            os.close(f)

    def change(self, top):
        b = lambda name: top + b"/" + name
        self.do("mkdir", os.mkdir, b(b"new dir"))
        self.do("create", self.write, b(b"new dir/file"), 0, 9000)
        self.do("symlink", os.symlink, b"t" * 200, b(b"new link"))
        victims = [top + b"/" + path for path in self.hurt]
        victims += [b(b"small 2"), b(b"inline"), b(b"mixed")]
        for number, full in enumerate(victims[:6]):
            status = self.do("lstat", os.lstat, full)
            if status is None:
                continue
            if stat.S_ISDIR(status.st_mode):
                self.do("create", self.write, full + b"/made", 0, 100)
                self.do("mkdir", os.mkdir, full + b"/sub dir")
                self.do("rename", os.rename, full + b"/made", b(b"moved %d" % number))
                self.do("rmdir", os.rmdir, full + b"/sub dir")
                self.do("rmdir", os.rmdir, full)
            elif stat.S_ISREG(status.st_mode):
                self.file(full, b(b"link %d" % number))
            else:
                self.do("rename", os.rename, full, b(b"moved %d" % number))
                self.do("unlink", os.unlink, b(b"moved %d" % number))
        for name in (b"new dir/file", b"new link", b"new dir"):
            self.do("remove", os.rmdir if name == b"new dir" else os.unlink, b(name))
        self.do("statvfs", os.statvfs, top)
        self.do("utime", os.utime, top)

    @staticmethod
    def write(full, at, n):
        f = os.open(full, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            os.pwrite(f, b"w" * n, at)
            os.fsync(f)
        finally:
            os.close(f)

    def file(self, full, other):
        self.do("write", self.write, full, 0, 5000)
        self.do("write", self.write, full, 300 * PAGE, 100)
        f = self.do("open", os.open, full, os.O_RDWR)
        if f is not None:
            self.do("map", self.map, f)
            self.do("fallocate", fallocate, f, KEEP_SIZE, 50 * PAGE, 20 * PAGE)
            self.do("punch", fallocate, f, KEEP_SIZE | PUNCH_HOLE, 3 * PAGE, 5 * PAGE)
            self.do("ftruncate", os.ftruncate, f, 3 * PAGE + 17)
            self.do("ftruncate", os.ftruncate, f, 90 * PAGE)
            os.close(f)
        self.do("link", os.link, full, other)
        self.do("unlink", os.unlink, full)
        self.do("truncate", os.truncate, other, 0)
        self.do("unlink", os.unlink, other)

    @staticmethod
    def map(f):
        size = min(os.fstat(f).st_size, 64 * PAGE)
        if size < 1:
            return
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGBUS, signal.SIG_DFL)
            with mmap.mmap(f, size) as m:
                for at in range(0, size, PAGE):
                    m[at]
                    m[at] = 1
                m.flush()
            os._exit(0)
        os.waitpid(child, 0)


def damaged(device, hurt):
    """In a child: mounts and works; prints what it met. The exit status says what came of it."""
    target = MNT.encode()
    if libc.mount(device.encode(), target, b"ochre", 0, None) != 0:
        code = ctypes.get_errno()
        if code not in REFUSAL:
            print(f"    the mount says {os.strerror(code)}")
            return 1
        return 10
    work = Work(hurt)
    work.walk(target)
    at_walk = bool(work.errors.keys() & {errno.EUCLEAN, errno.EIO})
    work.change(target)
    if work.errors.keys() & {errno.EUCLEAN, errno.EIO}:
        said = errno_name(lambda: os.chmod(target, 0o755))
        if said != "EROFS":
            work.bad.append(f"after damage was met, chmod says {said}, not EROFS")
    os.sync()
    if libc.umount2(target, 0) != 0:
        work.bad.append(f"unmount: {os.strerror(ctypes.get_errno())}")
    for text in work.bad[:5]:
        print("   ", text)
    if work.bad:
        return 1
    return 11 if at_walk else 12 if work.errors.keys() & {errno.EUCLEAN, errno.EIO} else 13


def one(device, hurt):
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 2
        try:
            status = damaged(device, hurt)
            sys.stdout.flush()
        finally:
            os._exit(status)
    # A child that cannot be killed any more is seen as well.
    end = time.monotonic() + 120
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    fail("no end after 120 s")


def main():
    pack, device, wanted = Pack(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    begin, tried, failed = time.monotonic(), 0, 0
    came = {10: 0, 11: 0, 12: 0, 13: 0}
    while tried < (wanted or pack.count) and tried < pack.count:
        if not wanted and time.monotonic() - begin > BUDGET:
            break
        base, seed, text, hurt, writes = pack.image()
        with open("/dev/kmsg", "w") as log:
            log.write(f"bad image {tried}, seed {seed}: {text[:600]}\n")
        # Not open for longer: a kernel may refuse to mount what somebody can write to.
        raw = os.open(device, os.O_RDWR | os.O_DIRECT)
        restore(raw, pack.bases[base], writes)
        os.close(raw)
        status = one(device, hurt)
        if status in came:
            came[status] += 1
        else:
            failed += 1
            print(f"image {tried}, seed {seed}, status {status}: {text}")
            libc.umount2(MNT.encode(), 2)
        tried += 1
    if failed:
        fail(f"{failed} of {tried} images")
    print(f"proved: {tried} damaged filesystems: {came[10]} do not mount, {came[11]} EUCLEAN or EIO at reading, {came[12]} at a change, "
          f"{came[13]} worked; read-only after the first error, no oops, no hang ({time.monotonic() - begin:.0f} s)")


main()
