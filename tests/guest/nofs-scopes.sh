# Each call as the first one after a mount, when whatever it needs of the medium is still to be verified and kept: none asks for memory outside of a nofs scope.
# test-build
# only: ochre
# timeout: 180
. "$(dirname "$0")/lib.sh"
python3 - <<'PY'
from racing import *
import glob

BIG = 1200  # pieces of a file, and names in a directory: more than an inode or one block holds

def prepared():
    f = make("big")
    for i in range(BIG):
        os.pwrite(f, b"x" * PAGE, 2 * i * PAGE)
    os.close(f)
    os.mkdir(path("d"))
    for i in range(BIG):
        os.close(make(f"d/name-that-takes-some-room-{i:04}"))
    os.symlink("x" * 3000, path("link"))
    for name in ("gone", "old", "target"):
        os.close(make(name, PAGE, b"some"))
    for name in ("empty", "from", "from/sub", "to"):
        os.mkdir(path(name))
    f = make("held")
    for i in range(100):
        os.pwrite(f, b"x" * PAGE, 2 * i * PAGE)
    os.close(f)

def with_file(call, name="big", flags=os.O_RDWR):
    def do():
        f = os.open(path(name), flags)
        try:
            call(f)
        finally:
            os.close(f)
    return do

def mapped(touch):
    def call(f):
        with Map(f, 16 * PAGE) as m:
            touch(m)
    return with_file(call)

def handle_opened(name):
    handle = name_to_handle(path(name))
    def do():
        at = os.open(MNT, os.O_RDONLY)
        os.close(open_handle(at, handle))
        os.close(at)
    return do

def remounted(flags):
    return lambda: raise_errno(libc.mount(None, MNT.encode(), None, 32 | flags, None))

def ioctl(name, request, room):
    return with_file(lambda f: fcntl.ioctl(f, request, bytearray(room)), name, os.O_RDONLY)

def written(name, text):
    def do():
        with open(name, "w") as f:
            f.write(text)
    return do

def dropped():
    for directory, _, names in os.walk(MNT):
        for name in names:
            os.lstat(os.path.join(directory, name))
    written("/proc/sys/vm/drop_caches", "3")()

def debug_read():
    for name in glob.glob("/sys/kernel/debug/ochre-*/layout"):
        open(name).read()

def unnamed(f=None):
    f = os.open(path("to"), os.O_TMPFILE | os.O_RDWR)
    os.pwrite(f, b"x", 0)
    link_open_file(f, path("to/named"))
    os.close(f)

FREEZE, THAW, GETFLAGS, SETFLAGS = 0xC0045877, 0xC0045878, 0x80086601, 0x40086602

def calls():
    d = "d/name-that-takes-some-room-0777"
    yield "lookup", lambda: os.stat(path(d))
    yield "no such name", lambda: os.path.exists(path("d/nothing"))
    yield "readdir", lambda: os.listdir(path("d"))
    yield "readlink", lambda: os.readlink(path("link"))
    yield "statfs", lambda: os.statvfs(MNT)
    yield "seek data", with_file(lambda f: os.lseek(f, PAGE, os.SEEK_DATA))
    yield "seek hole", with_file(lambda f: os.lseek(f, (2 * BIG - 2) * PAGE, os.SEEK_HOLE))
    yield "fiemap", with_file(extents)
    yield "read", with_file(lambda f: os.pread(f, PAGE, 1000 * PAGE))
    yield "write in place", with_file(lambda f: os.pwrite(f, b"y" * 100, 1000 * PAGE))
    yield "write into a hole", with_file(lambda f: os.pwrite(f, b"y" * PAGE, 1001 * PAGE))
    yield "append", with_file(lambda f: os.pwrite(f, b"y" * PAGE, 2 * BIG * PAGE))
    yield "fault for reading", mapped(lambda m: m.read(0, 1))
    yield "fault into a hole", mapped(lambda m: m.read(PAGE, 1))
    yield "fault for writing", mapped(lambda m: m.write(0, b"z"))
    yield "fault that allocates", mapped(lambda m: m.write(3 * PAGE, b"z"))
    yield "msync", mapped(lambda m: (m.write(0, b"z"), m.sync()))
    for name, mode in (("preallocate", 0), ("punch", PUNCH_HOLE | KEEP_SIZE), ("zero", ZERO_RANGE), ("collapse", COLLAPSE_RANGE), ("insert", INSERT_RANGE)):
        yield name, with_file(lambda f, mode=mode: fallocate(f, mode, 64 * PAGE, 8 * PAGE))
    yield "truncate", lambda: os.truncate(path("big"), 999 * PAGE + 1)
    yield "grow", lambda: os.truncate(path("big"), 3 * BIG * PAGE)
    yield "create", lambda: os.close(make("d/another"))
    yield "mkdir", lambda: os.mkdir(path("d/directory"))
    yield "mknod", lambda: os.mkfifo(path("d/fifo"))
    yield "symlink", lambda: os.symlink("y" * 2000, path("d/link"))
    yield "link", lambda: os.link(path("old"), path("d/old"))
    yield "rename", lambda: os.rename(path("old"), path("d/renamed"))
    yield "rename over", lambda: os.rename(path(d), path("target"))
    yield "move a directory", lambda: os.rename(path("from/sub"), path("to/sub"))
    yield "exchange", lambda: renameat2(path("from"), path("target"), RENAME_EXCHANGE)
    yield "unlink", lambda: os.unlink(path("gone"))
    yield "unlink what has a tree", lambda: os.unlink(path("held"))
    yield "rmdir", lambda: os.rmdir(path("empty"))
    yield "tmpfile", unnamed
    yield "chmod", lambda: os.chmod(path("d"), 0o700)
    yield "chown", lambda: os.chown(path("d"), 1, 1)
    yield "utimes", lambda: os.utime(path("big"), (1, 2))
    yield "get flags", ioctl("big", GETFLAGS, 8)
    yield "set flags", ioctl("big", SETFLAGS, 8)
    yield "fsync", with_file(os.fsync)
    yield "fsync of a directory", with_file(os.fsync, "d", os.O_RDONLY)
    yield "syncfs", with_file(lambda f: raise_errno(libc.syncfs(f)), "d", os.O_RDONLY)
    yield "handle", handle_opened("d/another")
    yield "handle of a directory", handle_opened("to/sub")
    yield "freeze", ioctl("d", FREEZE, 4)
    yield "thaw", ioctl("d", THAW, 4)
    yield "remount,ro", remounted(1)
    yield "remount,rw", lambda: (remounted(1)(), remounted(0)())
    yield "mount options", lambda: open("/proc/mounts").read()
    yield "debugfs", debug_read
    yield "eviction", dropped

def all_calls(_):
    prepared()
    count = 0
    for name, call in calls():
        # (What is frozen is not unmounted.)
        if name != "thaw":
            raise_errno(libc.umount2(MNT.encode(), 0))
            mount_new(DEV, MNT, "dax=always")
        call()
        count += 1
        found = shell("dmesg").stdout.count("outside of a nofs scope")
        check(not found, f"{name}: memory is asked for outside of a nofs scope")
    equal(count, 54, "the number of calls")

run(all_calls)
PY
proved "54 calls, each the first after a mount, ask for memory in a nofs scope only"
