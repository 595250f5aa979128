# Feature bits from the future: incompatible ones refuse the mount, read-only-compatible ones allow only ro, compatible ones mean nothing.
# only: ochre
. "$(dirname "$0")/lib.sh"
mount_fs
echo old >"$MNT/f"
unmount_fs
patch() { python3 -c 'import sys; from ochretest import *; patch_superblock(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))' "$DEV" "$1" "$2"; }
patch 40 65536
mount_refused EINVAL 'features 0x10000 are not known' "$DEV"
if fsck.ochre "$DEV" >/tmp/log 2>&1; then fail "fsck.ochre took an image with unknown features"; fi
patch 40 0
patch 32 32
mount_refused EROFS 'features 0x20 are not known' "$DEV"
mount_fs "$DEV" "$MNT" ro
[ "$(cat "$MNT/f")" = old ] || fail "content"
python3 - <<'PY'
from ochretest import *
refused("EROFS", lambda: raise_errno(libc.mount(None, MNT.encode(), None, 32, None)), "remount,rw")
layout = lambda: [line for line in open("/proc/mounts") if f" {MNT} " in line][0].split("layout=")[1].split()[0].split(",")[0]
equal(layout(), "defer", "layout")
refused("EROFS", lambda: raise_errno(libc.mount(None, MNT.encode(), None, 32, b"layout=wait")), "remount,rw,layout=wait")
equal(layout(), "defer", "layout after a remount that was refused")
raise_errno(libc.mount(None, MNT.encode(), None, 32 | 1, b"layout=wait"))
equal(layout(), "wait", "layout after a remount")
PY
unmount_fs
patch 32 0
patch 24 7
mount_fs
[ "$(cat "$MNT/f")" = old ] || fail "content"
unmount_fs
patch 24 0
patch 16 2
mount_refused EINVAL 'version 2' "$DEV"
patch 16 1
proved "unknown incompat bits and versions refuse, ro_compat bits allow ro only, compat bits are ignored; log lines show the bits"
