# An image that is larger than its device is refused and nothing is written to it.
# only: ochre
. "$(dirname "$0")/lib.sh"
modprobe dm-mod
sectors=$(($(blockdev --getsz "$DEV") / 2 / 8192 * 8192))
dmsetup create short --table "0 $sectors linear $DEV 0"
trap 'dmsetup remove short 2>/dev/null || true' EXIT
before=$(head -c 16M "$DEV" | sha256sum)
mount_refused EINVAL 'blocks.*the device only' /dev/mapper/short
[ "$before" = "$(head -c 16M "$DEV" | sha256sum)" ] || fail "the refused mount wrote to the device"
if fsck.ochre /dev/mapper/short >/tmp/log 2>&1; then fail "fsck.ochre took it"; fi
dmsetup remove --retry short
mount_fs
unmount_fs
proved "EINVAL with both sizes in the log line; not a byte of its first 16 MiB changed; on the whole device it mounts"
