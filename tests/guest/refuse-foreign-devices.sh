# What is no pmem is refused by name: a RAM disk, a loop device on a file, a file, a character device; and an unformatted pmem.
# only: ochre
. "$(dirname "$0")/lib.sh"
no_fsck
modprobe brd rd_nr=1 rd_size=65536
mount_refused EOPNOTSUPP 'not a pmem device' /dev/ram0
truncate -s 64M /dev/shm/image
modprobe loop
loop=$(losetup -f --show /dev/shm/image)
mkfs.ochre -f "$loop" >/dev/null
mount_refused EOPNOTSUPP 'not a pmem device' "$loop"
losetup -d "$loop"
python3 - <<'PY'
from ochretest import *
refused("ENOTBLK", lambda: mount_new("/dev/null", MNT, "dax"), "a character device")
refused("ENOTBLK", lambda: mount_new("/dev/shm/image", MNT, "dax"), "a file")
refused("ENOENT", lambda: mount_new("/dev/nothing", MNT, "dax"), "no such device")
PY
rm /dev/shm/image
dd if=/dev/zero of="$DEV" bs=1M count=8 status=none
dd if=/dev/zero of="$DEV" bs=4k count=1 seek=$(($(blockdev --getsize64 "$DEV") / 4096 - 1)) status=none
mount_refused EINVAL 'not an ochre filesystem' "$DEV"
mkfs.ext4 -q -F "$DEV"
mount_refused EINVAL 'not an ochre filesystem' "$DEV"
proved "RAM disk, loop device, file, character device, empty and ext4-formatted pmem: each its errno and one clear log line"
