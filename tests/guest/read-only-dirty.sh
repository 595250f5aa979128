# A write-protected device that was not unmounted: refused by name while its journal has to be replayed; ro replays where it may; remount,rw finishes orphans.
. "$(dirname "$0")/lib.sh"
trap 'umount "$MNT" 2>/dev/null || true; blockdev --setrw "$DEV"; rm -f /tmp/dirty' EXIT
mount_fs
# Files without directories stay in the first group, so its start is all that a crash would find changed.
python3 - <<'PY'
from ochretest import *
fds = []
for i in range(40):
    fd = os.open(path(f"f{i}"), os.O_CREAT | os.O_RDWR)
    os.write(fd, b"content %d" % i)
    fds.append(fd)
for i in range(10):
    os.unlink(path(f"f{i}"))
import subprocess
subprocess.check_call(["dd", "if=" + os.environ["DEV"], "of=/tmp/dirty", "bs=1M", "count=64", "status=none"])
PY
unmount_fs
dd if=/tmp/dirty of="$DEV" bs=1M conv=notrunc,fsync status=none
blockdev --flushbufs "$DEV"
orphans() { fsck.ochre -n --json "$DEV" | sed -n 's/.*"orphans": \([0-9]*\).*/\1/p'; }
[ "$(orphans)" = 10 ] || fail "the copy has $(orphans) orphans, not 10"
state() { head -c 64M "$DEV" | sha256sum; }

blockdev --setro "$DEV"
before=$(state)
mount_refused EROFS 'write-protected.*blockdev --setrw' "$DEV" ro
[ "$before" = "$(state)" ] || fail "the refused mount wrote"

blockdev --setrw "$DEV"
mount_fs "$DEV" "$MNT" ro
[ "$(cat "$MNT/f17")" = "content 17" ] || fail "content after the replay"
[ "$(ls "$MNT" | wc -l)" = 30 ] || fail "names after the replay"
unmount_fs

# Still not unmounted, but nothing is left to replay.
blockdev --setro "$DEV"
before=$(state)
mount_fs "$DEV" "$MNT" ro
[ "$(cat "$MNT/f39")" = "content 39" ] || fail "content on the write-protected device"
if mount -o remount,rw "$MNT" 2>/dev/null; then fail "remounted for writing on a write-protected device"; fi
unmount_fs
[ "$before" = "$(state)" ] || fail "the ro mount of a write-protected device wrote"

blockdev --setrw "$DEV"
mount_fs "$DEV" "$MNT" ro
used=$(df --output=iused "$MNT" | tail -1)
mount -o remount,rw "$MNT"
for ((i = 0; i < 100; i++)); do
    [ "$(df --output=iused "$MNT" | tail -1)" -gt $((used - 10)) ] || break
    sleep 0.1
done
unmount_fs
[ "$(orphans)" = 0 ] || fail "remount,rw left $(orphans) orphans"
proved "dirty and write-protected is refused, unchanged, and says what to do; ro replays; nothing to replay mounts; remount,rw finishes 10 orphans"
