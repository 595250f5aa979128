# statfs counts blocks exactly: what a file takes is what is missing, and comes back when it goes; df of the root is sane.
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
st = os.statvfs(MNT)
size = int(open("/sys/block/pmem0/size").read()) * 512
equal(st.f_bsize, 4096, "block size")
check(size * 0.90 < st.f_blocks * 4096 <= size, f"f_blocks {st.f_blocks} of a device of {size} bytes")
check(0 < st.f_bavail <= st.f_bfree <= st.f_blocks, "free <= blocks")
check(st.f_ffree > 100000 and st.f_files >= st.f_ffree, "inodes")
equal(st.f_namemax, 255, "name length")
f = os.open(path("f"), os.O_CREAT | os.O_RDWR)
base = os.statvfs(MNT)
fallocate(f, 0, 0, 64 * MIB)
used = base.f_bfree - os.statvfs(MNT).f_bfree
check(16384 <= used <= 16384 + 16, f"64 MiB took {used} blocks")
equal(os.fstat(f).st_blocks // 8 >= 16384, True, "st_blocks")
os.ftruncate(f, 0)
equal(os.statvfs(MNT).f_bfree, base.f_bfree, "free after truncate")
equal(os.fstat(f).st_blocks, 0, "st_blocks after truncate")
PY
proved "statfs: size, names of 255, and 64 MiB leave and come back block for block"
