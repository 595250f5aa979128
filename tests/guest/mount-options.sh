# `dax` and `dax=always` mean the same; anything unknown is refused with EINVAL and one line that names it.
# only: ochre
. "$(dirname "$0")/lib.sh"
for o in dax dax=always; do
    mount -t ochre -o $o "$DEV" "$MNT"
    grep -q "^$DEV $MNT ochre rw,.*dax=always" /proc/mounts || fail "/proc/mounts after -o $o: $(grep "$MNT" /proc/mounts)"
    umount "$MNT"
done
mount_refused EINVAL 'nonsense' "$DEV" dax=always,nonsense
mount_refused EINVAL 'dax' "$DEV" dax=sometimes
proved "dax and dax=always mount and are shown as dax=always; unknown options are refused by name"
