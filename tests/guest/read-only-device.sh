# A write-protected device: mounting for writing is refused, ro works and writes nothing.
. "$(dirname "$0")/lib.sh"
mount_fs
echo x >"$MNT/x"
unmount_fs
trap 'umount "$MNT" 2>/dev/null || true; blockdev --setrw "$DEV"' EXIT
blockdev --setro "$DEV"
before=$(head -c 64M "$DEV" | sha256sum)
python3 - <<'PY'
from ochretest import *
refused("EACCES", lambda: mount_new("/dev/pmem0", MNT, "dax=always"), "mounting a write-protected device for writing")
PY
mount -t "$FSTYPE" -o "dax=always,ro" "$DEV" "$MNT"
[ "$(cat "$MNT/x")" = x ] || fail "content"
refused EROFS touch "$MNT/y"
unmount_fs
[ "$before" = "$(head -c 64M "$DEV" | sha256sum)" ] || fail "the ro mount wrote"
proved "EACCES for rw on a write-protected device, ro reads and leaves its first 64 MiB byte for byte"
