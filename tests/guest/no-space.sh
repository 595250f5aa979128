# A full filesystem says ENOSPC and means it: nothing half done, deletion works, preallocated space can be written, everything comes back.
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
base = os.statvfs(MNT)
pre = os.open(path("preallocated"), os.O_RDWR | os.O_CREAT)
fallocate(pre, 0, 0, 32 * MIB)
for i in range(200):
    open(path(f"small{i}"), "wb").write(pattern(10000, i))
f = os.open(path("filler"), os.O_RDWR | os.O_CREAT)
size = 0
block = b"fill" * (MIB // 4)
try:
    while True:
        size += os.pwrite(f, block[:MIB], size)
except OSError as e:
    equal(errno.errorcode[e.errno], "ENOSPC", "filling")
step = PAGE
try:
    while True:
        n = os.pwrite(f, block[:PAGE], size)
        size += n
except OSError as e:
    equal(errno.errorcode[e.errno], "ENOSPC", "filling the rest")
equal(os.fstat(f).st_size, size, "size is what write said")
equal(os.pread(f, 8, size - 8), b"fillfill", "the last bytes written")
check(os.statvfs(MNT).f_bavail < 600, f"really full: {os.statvfs(MNT).f_bavail}")
g = os.open(path("g"), os.O_RDWR | os.O_CREAT)
os.ftruncate(g, 64 * MIB)
refused("ENOSPC", lambda: [os.pwrite(g, block[:PAGE], o * PAGE) for o in range(1000)], "write into a hole")
refused("ENOSPC", lambda: fallocate(g, 0, 0, 64 * MIB), "fallocate")
m = Map(g, 64 * MIB)
def fault_all():
    for o in range(2000):
        m.write(32 * MIB + o * PAGE, b"x")
equal(signal_of(fault_all), signal.SIGBUS, "a fault that needs a block is SIGBUS")
# preallocated space is there for writes and faults
for o in range(0, 16 * MIB, MIB):
    os.pwrite(pre, block, o)
p = aligned_map(pre, 32 * MIB)
for o in range(16 * MIB, 32 * MIB, 3 * PAGE):
    p.write(o, b"here")
equal(os.pread(pre, 4, 16 * MIB), b"here", "preallocated space on a full filesystem")
# names until nothing goes any more, then all away
made = 0
try:
    for i in range(200000):
        os.mkdir(path(f"dir{i}"))
        os.mkdir(path(f"dir{i}/" + "n" * 200))
        made = i + 1
except OSError as e:
    equal(errno.errorcode[e.errno], "ENOSPC", "mkdir")
for i in range(200):
    equal(open(path(f"small{i}"), "rb").read(), pattern(10000, i), "an old file")
os.unlink(path("small0"))
os.ftruncate(f, size // 2 + 1)
os.pwrite(g, b"again", 0)
equal(os.pread(g, 5, 0), b"again", "space after a truncate")
m.close()
p.close()
for fd in (pre, f, g):
    os.close(fd)
import shutil
for n in os.listdir(MNT):
    if n != "lost+found":
        (shutil.rmtree if os.path.isdir(path(n)) else os.unlink)(path(n))
left = base.f_bfree - os.statvfs(MNT).f_bfree
check(left <= 64 + made // 200, f"{left} blocks did not come back")
PY
check_after=$(df --output=pcent "$MNT" | tail -1)
unmount_fs
check_fs || fail "fsck after the filesystem was full"
proved "full: ENOSPC for write, fallocate, mkdir, SIGBUS for a fault, preallocated space good, then all blocks back ($check_after used), fsck clean"
