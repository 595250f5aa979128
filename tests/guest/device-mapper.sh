# dm-linear over one namespace is one direct range and works, MAP_SYNC and held pages too; dm-striped over two is refused by name.
# only: ochre
. "$(dirname "$0")/lib.sh"
no_fsck
modprobe dm-mod
trap 'umount "$MNT" 2>/dev/null || true; dmsetup remove_all >/dev/null 2>&1 || true' EXIT
half=$(($(blockdev --getsz "$DEV") / 2 / 8192 * 8192))
dmsetup create line --table "0 $half linear $DEV $half"
mkfs.ochre -f /dev/mapper/line >/dev/null
mount_fs /dev/mapper/line
python3 - <<'PY'
from ochretest import *
f = os.open(path("f"), os.O_RDWR | os.O_CREAT)
fallocate(f, 0, 0, 8 * MIB)
with aligned_map(f, 8 * MIB, MAP_SHARED_VALIDATE | MAP_SYNC) as m:
    m.write(0, pattern(8 * MIB))
equal(os.pread(f, 8 * MIB, 0), pattern(8 * MIB), "bytes")
held_pages(f)
PY
unmount_fs
fsck.ochre /dev/mapper/line >/dev/null || fail "fsck"
dmsetup remove --retry line
dmsetup create stripes --table "0 $((half * 2)) striped 2 4096 $DEV 0 $DEV2 0"
log_mark
mkfs.ochre -f /dev/mapper/stripes >/dev/null
mount_refused EOPNOTSUPP 'device-mapper|one direct' /dev/mapper/stripes
# two pieces joined: as little one range
dmsetup remove --retry stripes
dmsetup create joined --table "0 $half linear $DEV 0
$half $half linear $DEV2 0"
mkfs.ochre -f /dev/mapper/joined >/dev/null
mount_refused EOPNOTSUPP 'device-mapper|one direct' /dev/mapper/joined
proved "dm-linear over part of a namespace works with MAP_SYNC and held pages; striped and joined stacks are refused by name"
