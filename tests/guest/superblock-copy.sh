# A damaged superblock: the copy at the device's end is used, said in one line, and everything is there; with both gone the mount is refused.
# only: ochre
. "$(dirname "$0")/lib.sh"
no_fsck
mount_fs
for i in $(seq 50); do echo "$i" >"$MNT/f$i"; done
unmount_fs
blocks=$(($(blockdev --getsize64 "$DEV") / 4096))
for damage in zero random; do
    [ $damage = zero ] && source=/dev/zero || source=/dev/urandom
    dd if=$source of="$DEV" bs=512 count=1 conv=notrunc status=none
    log_mark
    mount_fs
    logged_once 'superblock.*damaged.*copy'
    [ "$(cat "$MNT"/f* | sort -n | tail -1)" = 50 ] || fail "content"
    unmount_fs
done
dd if=/dev/zero of="$DEV" bs=4k count=1 conv=notrunc status=none
dd if=/dev/zero of="$DEV" bs=4k count=1 seek=$((blocks - 1)) conv=notrunc status=none
mount_refused EINVAL 'not an ochre filesystem' "$DEV"
make_fs "$DEV"
# One flipped bit in each, which no magic number tells: both are damaged.
for at in 0 $((blocks - 1)); do
    printf 'X' | dd of="$DEV" bs=1 seek=$((at * 4096 + 50)) conv=notrunc status=none
done
mount_refused EUCLEAN 'superblock' "$DEV"
proved "a zeroed or scrambled superblock is replaced by its copy and said so once; both damaged: EUCLEAN; both gone: not Ochre"
