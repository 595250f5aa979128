# timeout: 120
# Six processes write, store, read, truncate, punch, preallocate, sync and pin pages of the same files for half a minute.
# Every page says which file and page it is, so a foreign byte is noticed; afterwards every block must be free again.
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
import time
FILES, PAGES, SECONDS = 3, 2048, 30
base = os.statvfs(MNT).f_bfree
files = [os.open(path(f"f{i}"), os.O_RDWR | os.O_CREAT) for i in range(FILES)]
salt = seed().randrange(1 << 30)

def mark(file, page):
    return struct.pack("<QQQ", 0x0c43e, file, page)

def look(data, file, page, how):
    # A page is new (zeros), or has a part of its mark (stores put the magic last; a punch may come between the two).
    magic, f, p = struct.unpack("<QQQ", data)
    if (f or p) and (f, p) != (file, page) or magic not in (0, 0x0c43e):
        fail(f"{how}: page {page} of file {file} says {magic:#x} {f} {p}")

# Pages behind the end are touched by system calls, which answer EFAULT where a store would kill.
libc.process_vm_readv.argtypes = libc.process_vm_writev.argtypes = [
    ctypes.c_int, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong]

def touch(call, address, data):
    there = (ctypes.c_ulong * 2)(address, len(data))
    here = (ctypes.c_ulong * 2)(ctypes.addressof(data), len(data))
    return call(os.getpid(), here, 1, there, 1, 0) == len(data)

def worker(number):
    rnd = random.Random(salt + number)
    end = time.monotonic() + SECONDS
    buffer = ctypes.create_string_buffer(24)
    while time.monotonic() < end:
        file = rnd.randrange(FILES)
        fd = files[file]
        first = rnd.randrange(PAGES - 16)
        pages = range(first, first + rnd.randrange(1, 16))
        at, size = first * PAGE, len(pages) * PAGE
        op = rnd.randrange(12)
        if op < 2:
            os.pwrite(fd, b"".join(mark(file, p) + bytes(PAGE - 24) for p in pages), at)
        elif op == 2:
            data = os.pread(fd, size, at)
            for o in range(0, len(data) - 24, PAGE):
                look(data[o:o + 24], file, first + o // PAGE, "read")
        elif op < 6:
            with Map(fd, PAGES * PAGE, MAP_SHARED if op < 5 else MAP_PRIVATE) as m:
                for p in pages:
                    if rnd.randrange(2) and op < 5:
                        # File and page first, magic after.
                        buffer.raw = mark(file, p)
                        whole = bytes(buffer.raw)
                        rest = ctypes.create_string_buffer(whole[8:], 16)
                        if touch(libc.process_vm_writev, m.address + p * PAGE + 8, rest):
                            touch(libc.process_vm_writev, m.address + p * PAGE, ctypes.create_string_buffer(whole[:8], 8))
                    elif touch(libc.process_vm_readv, m.address + p * PAGE, buffer):
                        look(buffer.raw[:24], file, p, "mapping")
        elif op == 6:
            os.ftruncate(fd, at + rnd.choice((0, 0, 100, 4095)))
        elif op == 7:
            os.ftruncate(fd, PAGES * PAGE)
        elif op == 8:
            fallocate(fd, PUNCH_HOLE | KEEP_SIZE, at + rnd.choice((0, 100)), size)
        elif op == 9:
            fallocate(fd, rnd.choice((0, KEEP_SIZE)), at, size)
        elif op == 10:
            os.fsync(fd)
        else:
            with Map(fd, PAGES * PAGE, MAP_SHARED, PROT_READ) as m:
                r, w = os.pipe()
                iov = (ctypes.c_ulong * 2)(m.address + at, PAGE)
                if libc.vmsplice(w, iov, ctypes.c_ulong(1), 2) == PAGE:
                    m.close()
                    time.sleep(rnd.random() / 200)
                    look(os.read(r, PAGE)[:24], file, first, "pinned page")
                os.close(r)
                os.close(w)

children = [spawn(lambda n=n: worker(n)) for n in range(6)]
for child in children:
    reap(child, "a worker")
for i, f in enumerate(files):
    data = os.pread(f, PAGES * PAGE, 0)
    for o in range(0, len(data) - 24, PAGE):
        look(data[o:o + 24], i, o // PAGE, "at the end")
    os.close(f)
    os.unlink(path(f"f{i}"))
for _ in range(50):
    if os.statvfs(MNT).f_bfree == base:
        break
    time.sleep(0.1)
equal(os.statvfs(MNT).f_bfree, base, "free blocks afterwards")
print("proved: writes, stores, truncates, punches and pins in parallel mix no file's bytes with another's, and leak no block")
PY
