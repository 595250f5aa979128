# Others on top: ext4 in a loop device on a file (with and without direct I/O, trimmed while a page is held), overlayfs above and below, bind mounts, namespaces, lazy umount, inotify, and calls that are refused.
# only: ochre
# devices: 2
# timeout: 240
. "$(dirname "$0")/lib.sh"
modprobe loop 2>/dev/null || true
modprobe overlay 2>/dev/null || true
mount_fs
mount_fs $DEV2 $MNT2
mkdir -p /tmp/on
for direct in off on; do
    truncate -s 96M $MNT/img
    loop=$(losetup -f --show --direct-io=$direct $MNT/img)
    mkfs.ext4 -q -F "$loop"
    mount -o discard "$loop" /tmp/on
    python3 - <<'PY'
from ochretest import *
import subprocess
img = os.open(path("img"), os.O_RDWR)
m = aligned_map(img, 96 * MIB)
data = pattern(24 * MIB, 3)
with open("/tmp/on/a", "wb") as a:
    a.write(data)
    os.fsync(a.fileno())
# Pages of the file below are held while their blocks are trimmed, which is a punch.
pins = [PinnedPage(m, o * MIB) for o in range(0, 96, 5)]
os.unlink("/tmp/on/a")
subprocess.run(["sync"], check=True)
subprocess.run(["fstrim", "/tmp/on"], check=True)
with open("/tmp/on/b", "wb") as b:
    b.write(pattern(24 * MIB, 4))
    os.fsync(b.fileno())
for pin in pins:
    pin.release()
equal(open("/tmp/on/b", "rb").read(), pattern(24 * MIB, 4), "the file in ext4")
PY
    echo 3 >/proc/sys/vm/drop_caches
    umount /tmp/on
    e2fsck -fn "$loop" >/dev/null || fail "ext4 in a loop device (direct I/O $direct) is damaged"
    rm $MNT/img
    cmp -n 1024 "$loop" /dev/zero >/dev/null || fail "the deleted file under a loop device"
    losetup -d "$loop"
done

python3 - <<'PY'
from ochretest import *
import subprocess, time

def sh(command):
    equal(subprocess.call(command, shell=True), 0, command)

def back(want, text):
    for _ in range(200):
        if os.statvfs(MNT).f_bfree >= want:
            return
        time.sleep(0.05)
    fail(f"{text}: {want - os.statvfs(MNT).f_bfree} blocks did not come back")

os.makedirs(path("upper"))
os.makedirs(path("work"))
os.makedirs("/mnt2/lower/d")
with open("/mnt2/lower/f", "wb") as f:
    f.write(pattern(4 * MIB, 5))
# Overlay: the lower one on one device, the upper one on the other.
sh("mount -t overlay overlay -o lowerdir=/mnt2/lower,upperdir=/mnt/upper,workdir=/mnt/work /tmp/on")
base = os.statvfs(MNT).f_bfree
lower = os.open("/tmp/on/f", os.O_RDONLY)
below = aligned_map(lower, 4 * MIB, prot=PROT_READ)
equal(below.read(0, 4 * MIB), pattern(4 * MIB, 5), "mapped through the overlay")
f = os.open("/tmp/on/f", os.O_RDWR)
m = aligned_map(f, 4 * MIB)
m.write(MIB, b"stored")
m.sync()
equal(os.pread(f, 6, MIB), b"stored", "copied up and stored")
equal(below.read(MIB, 6), pattern(4 * MIB, 5)[MIB:MIB + 6], "the lower one is as it was")
pins = [PinnedPage(m, 3 * MIB), PinnedPage(below, 2 * MIB)]
os.ftruncate(f, PAGE)
os.unlink("/tmp/on/f")
os.close(f)
os.close(lower)
m.close()
below.close()
equal(pins[0].release(), pattern(4 * MIB, 5)[3 * MIB:3 * MIB + PAGE], "held through the overlay, upper")
sh("umount /tmp/on")
pins[1].release()
back(base - 8, "overlay")

# The same device a second time, bind mounts, a namespace that holds on, and a lazy umount with a mapped file.
os.mkdir("/tmp/two")
mount_new("/dev/pmem0", "/tmp/two", "dax=always")
f = os.open("/tmp/two/mapped", os.O_RDWR | os.O_CREAT)
os.write(f, pattern(8 * PAGE, 6))
m = Map(f, 8 * PAGE)
equal(open(path("mapped"), "rb").read(), pattern(8 * PAGE, 6), "seen through the first mount")
sh("mount --bind /tmp/two /tmp/on")
sh("umount -l /tmp/two")
pin = PinnedPage(m, 2 * PAGE)
os.unlink("/tmp/on/mapped")
m.write(0, b"still")
equal(os.pread(f, 5, 0), b"still", "a deleted file below a lazily unmounted tree")
sh("umount /tmp/on")
sleeper = subprocess.Popen(["unshare", "-m", "--propagation", "private", "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE)
sleeper.stdout.readline()
sh("umount -l /mnt2")
mount_new("/dev/pmem1", "/mnt2", "dax=always")
equal(open("/mnt2/lower/f", "rb").read(), pattern(4 * MIB, 5), "mounted again while another namespace has it")
with open("/mnt2/lower/f", "r+b") as g:
    n = Map(g.fileno(), 4 * MIB)
    held = PinnedPage(n, MIB)
    os.ftruncate(g.fileno(), PAGE)
    n.close()
sleeper.kill()
sleeper.wait()
equal(held.release(), pattern(4 * MIB, 5)[MIB:MIB + PAGE], "held over it all")

# A page of one filesystem goes by pipe into the other, after its file was cut.
a = os.open(path("a"), os.O_RDWR | os.O_CREAT)
os.write(a, pattern(4 * PAGE, 8))
with Map(a, 4 * PAGE) as n:
    n.read(2 * PAGE, 1)
    through = PinnedPage(n, 2 * PAGE)
os.ftruncate(a, PAGE)
os.ftruncate(a, 4 * PAGE)
b = os.open("/mnt2/b", os.O_RDWR | os.O_CREAT)
libc.splice.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint]
equal(raise_errno(libc.splice(through.r, None, b, None, PAGE, 0)), PAGE, "splice")
equal(os.pread(b, PAGE, 0), pattern(4 * PAGE, 8)[2 * PAGE:3 * PAGE], "the page that went to the other filesystem")
equal(os.pread(a, 3 * PAGE, PAGE), bytes(3 * PAGE), "its old place")
refused("EXDEV", lambda: os.copy_file_range(a, b, PAGE, 0, 0), "copy_file_range to another filesystem")

# inotify sees it, and does not keep a deleted file.
watch = raise_errno(libc.inotify_init1(0o4000))
raise_errno(libc.inotify_add_watch(watch, path("a").encode(), 0xFFF))
with Map(a, 4 * PAGE) as n:
    n.read(0, 1)
    last = PinnedPage(n, 0)
os.ftruncate(a, 0)
os.unlink(path("a"))
os.close(a)
events, raw = set(), os.read(watch, 4096)
while raw:
    _, mask, _, n = struct.unpack_from("<iIII", raw)
    events |= {bit for bit in (0x2, 0x4, 0x400) if mask & bit}
    raw = raw[16 + n:]
equal(events, {0x2, 0x4, 0x400}, "IN_MODIFY, IN_ATTRIB, IN_DELETE_SELF")
last.release()
pin.release()

# What there is not.
f = os.open(path("no"), os.O_RDWR | os.O_CREAT)
os.write(f, bytes(64 * PAGE))
for name, number in (("verity", 0x40806685), ("fscrypt", 0x800C6613), ("resize", 0x40086610)):
    refused("ENOTTY", lambda: fcntl.ioctl(f, number, bytearray(256)), f"ioctl {name}")
refused("EOPNOTSUPP", lambda: fcntl.ioctl(f, 0x40049409, f), "clone")
got = errno_name(lambda: raise_errno(libc.swapon(path("no").encode(), 0)))
check(got in ("EINVAL", "ENOSYS"), f"swapon: {got}")  # (ENOSYS: a kernel without swap.)
for flag, want in ((0x40, "EOPNOTSUPP"), (0x80, "EOPNOTSUPP"), (0x2, "OK"), (0x4, "OK"), (0x10, "OK"), (0x20, "OK")):
    equal(errno_name(lambda: os.pwritev(f, [b"x" * PAGE], 0, flag)), want, f"pwritev2 with flag {flag:#x}")
equal(os.fstat(f).st_size, 65 * PAGE, "RWF_APPEND")
PY
umount $MNT2
unmount_fs
check_fs $DEV2 || fail "the second filesystem"
proved "ext4 in loop devices, trimmed under held pages; overlayfs over two devices; bind, lazy and namespaced mounts; inotify; ENOTTY, EOPNOTSUPP and EINVAL for what there is not"
