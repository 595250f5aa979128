# remount,ro with a writer is busy; without one it makes the filesystem read-only; remount,rw brings writing back.
. "$(dirname "$0")/lib.sh"
mount_fs
exec 7>"$MNT/open"
python3 - <<'PY'
from ochretest import *
refused("EBUSY", lambda: raise_errno(libc.mount(None, MNT.encode(), None, 32 | 1, None)), "remount,ro under a writer")
PY
exec 7>&-
echo before >"$MNT/a"
mount -o remount,ro "$MNT"
refused EROFS touch "$MNT/b"
mount -o remount,rw "$MNT"
echo after >"$MNT/b"
remount_fs
[ "$(cat "$MNT/a" "$MNT/b" | tr '\n' ' ')" = "before after " ] || fail "content after remounts"
proved "remount ro (EBUSY under a writer, EROFS after) and rw again"
