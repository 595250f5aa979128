# Symbolic links, short (inline) and up to 4095 bytes, dangling and looping.
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
targets = {n: ("t" * n) for n in (1, 59, 60, 61, 111, 112, 113, 255, 1000, 4095)}
for n, t in targets.items():
    os.symlink(t, path(f"l{n}"))
refused("ENAMETOOLONG", lambda: os.symlink("t" * 4096, path("l4096")), "4096 bytes")
libc.umount2(MNT.encode(), 0)
mount_new("/dev/pmem0", MNT, "dax=always")
for n, t in targets.items():
    equal(os.readlink(path(f"l{n}")), t, f"target of {n} bytes")
    equal(os.lstat(path(f"l{n}")).st_size, n, "st_size")
open(path("real"), "w").write("here")
os.symlink("real", path("rel"))
os.symlink(path("real"), path("abs"))
os.symlink("loop", path("loop"))
equal(open(path("rel")).read() + open(path("abs")).read(), "herehere", "followed")
refused("ENOENT", lambda: os.open(path("l60"), os.O_RDONLY), "dangling")
refused("ELOOP", lambda: os.open(path("loop"), os.O_RDONLY), "loop")
free = os.statvfs(MNT).f_bfree
for n in targets:
    os.unlink(path(f"l{n}"))
check(os.statvfs(MNT).f_bfree >= free, "blocks of symlinks")
PY
proved "symlinks of 1 to 4095 bytes survive a remount; ELOOP, dangling, ENAMETOOLONG"
