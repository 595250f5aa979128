# remount,ro or statfs that meets damage: the filesystem is read-only for the VFS as well, and nothing is opened for writing any more.
# only: ochre
. "$(dirname "$0")/lib.sh"
no_fsck
mount_fs
echo old >"$MNT/file"
python3 - <<'PY'
from ochretest import *
DEV = os.environ["DEV"]
PARTS = (0, 1024 * MIB)  # where the groups begin, or a little before
for i in range(20):
    os.mkdir(path(f"d{i}"))  # these take turns, so that both groups have something new

def copy():
    """What a crash leaves now of the beginnings of the groups."""
    fd = os.open(DEV, os.O_RDWR)
    parts = [os.pread(fd, 64 * MIB, at) for at in PARTS]
    os.close(fd)
    return parts

dirty = copy()
raise_errno(libc.umount2(MNT.encode(), 0))

def crashed():
    """The filesystem after a crash and a recovery, the groups not counted yet: that is done when somebody asks."""
    fd = os.open(DEV, os.O_RDWR)
    for at, part in zip(PARTS, dirty):
        os.pwrite(fd, part, at)
    os.fsync(fd)
    os.close(fd)
    mount_new(DEV, MNT, "dax=always")

def second_header(magic):
    """Stores something over the magic number of the second group."""
    fd = os.open(DEV, os.O_RDWR)
    at = next(at for at in range(1024 * MIB, 1152 * MIB, PAGE) if os.pread(fd, 8, at)[:8] in (b"OAGH\1\0\0\0", b"gone\1\0\0\0"))
    os.pwrite(fd, magic, at)
    os.fsync(fd)
    os.close(fd)

def remount():
    refused("EUCLEAN", lambda: raise_errno(libc.mount(None, MNT.encode(), None, 32 | 1, None)), "remount,ro that meets damage")

def statfs():
    equal(os.statvfs(MNT).f_blocks, 0, "a size that nobody knows")

for meets in (remount, statfs):
    crashed()
    os.close(os.open(path("file"), os.O_WRONLY))
    second_header(b"gone")
    meets()
    refused("EROFS", lambda: os.close(os.open(path("file"), os.O_WRONLY)), f"opening for writing after {meets.__name__}")
    options = next(line.split()[3] for line in open("/proc/mounts") if line.split()[1] == MNT)
    check("ro" in options.split(","), f"/proc/mounts after {meets.__name__}: {options}")
    equal(errno_name(lambda: raise_errno(libc.mount(None, MNT.encode(), None, 32 | 1, None))), "OK", "remount,ro of what is read-only")
    refused("EROFS", lambda: raise_errno(libc.mount(None, MNT.encode(), None, 32, None)), "remount,rw after damage")
    equal(open(path("file")).read(), "old\n", "what is not damaged can be read")
    raise_errno(libc.umount2(MNT.encode(), 0))
    second_header(b"OAGH")
PY
proved "remount,ro and statfs that meet damage leave the mount read-only: EROFS at open, 'ro' in /proc/mounts, no way back without fsck"
