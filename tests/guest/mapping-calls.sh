# What a process can do to its mappings while pages of the file are parked: fork, mremap, mprotect, madvise, mlock.
# (Not write-protection by userfaultfd: where it leaves a marker for an absent page, the kernel's DAX fault warns and gives SIGBUS, on ext4 too.)
# timeout: 240
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
import time
libc.mremap.restype = ctypes.c_void_p
libc.mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.mlock.argtypes = libc.munlock.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
SIZE = 8 * MIB
free = lambda: os.statvfs(MNT).f_bfree
# The directory has its block already.
open(path("f"), "w").close()
os.unlink(path("f"))
base = free()

def scene(call, text):
    """Two held pages go behind the end of the file, `call` does something to the mapping, and all see the same bytes before and after."""
    f = os.open(path("f"), os.O_RDWR | os.O_CREAT)
    fallocate(f, 0, 0, SIZE)
    m = aligned_map(f, SIZE)
    want = bytearray(pattern(SIZE, 1))
    m.write(0, want)
    pins = [PinnedPage(m, 3 * MIB), PinnedPage(m, 6 * MIB + PAGE)]
    fallocate(f, PUNCH_HOLE | KEEP_SIZE, 2 * MIB, 2 * MIB)
    os.ftruncate(f, 6 * MIB)
    os.ftruncate(f, SIZE)
    want[2 * MIB:4 * MIB] = bytes(2 * MIB)
    want[6 * MIB:] = bytes(2 * MIB)
    equal(m.read(0, SIZE), bytes(want), f"{text}: before")
    def store(at, data, m=m):
        m.write(at, data)
        want[at:at + len(data)] = data
    m = call(f, m, store, want) or m
    store(3 * MIB, b"after", m)
    store(7 * MIB, b"after", m)
    equal(m.read(0, SIZE), bytes(want), f"{text}: mapping")
    equal(os.pread(f, SIZE, 0), bytes(want), f"{text}: read")
    equal(pins[0].release(), pattern(SIZE, 1)[3 * MIB:3 * MIB + PAGE], f"{text}: the first holder's bytes")
    equal(pins[1].release(), pattern(SIZE, 1)[6 * MIB + PAGE:6 * MIB + 2 * PAGE], f"{text}: the second holder's bytes")
    equal(os.pread(f, SIZE, 0), bytes(want), f"{text}: after the release")
    m.close()
    os.close(f)
    os.unlink(path("f"))
    for _ in range(200):
        if free() == base:
            return
        time.sleep(0.05)
    fail(f"{text}: {base - free()} blocks did not come back")

def forked(f, m, store, want):
    def child():
        equal(m.read(0, SIZE), bytes(want), "child")
        m.write(2 * MIB + PAGE, b"child")
    reap(spawn(child), "child")
    want[2 * MIB + PAGE:2 * MIB + PAGE + 5] = b"child"

def moved(f, m, store, want):
    # To an address where no 2 MiB page fits, and with it the second mapping of the same pages.
    room = Map(-1, SIZE + 4 * MIB, MAP_PRIVATE | MAP_ANONYMOUS, 0)
    to = (room.address + HUGE) // HUGE * HUGE + 3 * PAGE
    a = libc.mremap(m.address, SIZE, SIZE, 3, to)
    equal(a, to, "mremap")
    result = object.__new__(Map)
    result.address, result.length, result.room = a, SIZE, room
    result.write(2 * MIB, b"moved")
    want[2 * MIB:2 * MIB + 5] = b"moved"
    return result

def grown(f, m, store, want):
    equal(libc.mremap(m.address, SIZE, PAGE, 0, None), m.address, "made shorter")
    equal(libc.mremap(m.address, PAGE, SIZE, 0, None), m.address, "made longer")
    equal(m.read(0, SIZE), bytes(want), "made longer")

def protected(f, m, store, want):
    for prot in (PROT_READ, PROT_READ | PROT_WRITE, 0, PROT_READ | PROT_WRITE):
        raise_errno(libc.mprotect(m.address + PAGE, SIZE - 3 * PAGE, prot))
    store(2 * MIB + 7, b"written again")
    raise_errno(libc.mprotect(m.address, SIZE, PROT_READ))
    equal(signal_of(lambda: m.write(3 * MIB, b"x")), signal.SIGSEGV, "a store to what is protected")
    raise_errno(libc.mprotect(m.address, SIZE, PROT_READ | PROT_WRITE))

def advised(f, m, store, want):
    m.advise(4)  # MADV_DONTNEED
    m.advise(22)  # MADV_POPULATE_READ
    equal(m.read(0, SIZE), bytes(want), "populated for reading")
    m.advise(4, 2 * MIB, MIB)
    m.advise(23)  # MADV_POPULATE_WRITE
    for advice in (25, 9, 21, 20, 8):  # COLLAPSE, REMOVE, PAGEOUT, COLD, FREE
        print(advice, errno_name(lambda: m.advise(advice, 5 * MIB, MIB)))
    want[5 * MIB:6 * MIB] = bytes(MIB)  # MADV_REMOVE is a punch

def locked(f, m, store, want):
    raise_errno(libc.mlock(m.address, SIZE))
    store(2 * MIB, b"locked")
    fallocate(f, PUNCH_HOLE | KEEP_SIZE, 0, MIB)
    want[:MIB] = bytes(MIB)
    os.ftruncate(f, 7 * MIB)
    os.ftruncate(f, SIZE)
    raise_errno(libc.munlock(m.address, SIZE))

for call in (forked, moved, grown, protected, advised, locked):
    scene(call, call.__name__)
PY
proved "fork, mremap, mprotect, madvise and mlock on a mapping whose file has parked pages: all see the same bytes, holders theirs, and all blocks come back"
