# A zero-range call that made the file larger, and fails then: the size is the same in memory and on the medium, and the file can be used.
# test-build
# only: ochre
. "$(dirname "$0")/lib.sh"
python3 - <<'PY'
from racing import *
SIZE = 8 * PAGE

def fails_half_way(removed):
    f = make("f", data=pattern(SIZE))
    m = Map(f, SIZE)
    m.read(6 * PAGE, 1)
    pin = PinnedPage(m, 6 * PAGE)
    os.ftruncate(f, PAGE)  # What the pipe holds is pending behind the end.
    failing("unwrite")
    refused("EIO", lambda: fallocate(f, ZERO_RANGE, 0, 4 * PAGE), "zero range")
    failing()
    size = os.fstat(f).st_size
    check(size in (PAGE, 4 * PAGE), f"size {size}")
    equal(os.pread(f, SIZE, 0), pattern(PAGE) + bytes(size - PAGE), "content")
    m.close()
    pin.release()
    equal(libc.umount2(MNT.encode(), 2), 0, "umount")  # (lazily: this process has it open)
    ino = os.fstat(f).st_ino
    os.close(f)
    poll(lambda: MNT not in open("/proc/mounts").read(), "still mounted")
    poll(lambda: os.path.exists("/sys/kernel/debug/ochre-pmem0") is False, "the unmount does not end")
    mount_new(DEV, MNT, "dax=always")
    now = os.stat(path("f"))
    equal((now.st_ino, now.st_size), (ino, size), "size after the next mount, which knows the medium's alone")
    with open(path("f"), "rb") as g:
        equal(g.read(), pattern(PAGE) + bytes(size - PAGE), "content after the next mount")

run(fails_half_way)
PY
proved "a zero-range call that fails half-way leaves one size, in memory and on the medium"
