# The same device at two places is one filesystem; one unmount leaves the other alive.
. "$(dirname "$0")/lib.sh"
mount_fs "$DEV" "$MNT"
mount_fs "$DEV" "$MNT2"
echo one >"$MNT/a"
[ "$(cat "$MNT2/a")" = one ] || fail "not the same filesystem"
python3 - <<'PY'
from ochretest import *
with open(path("a"), "r+b") as x, open(os.environ["MNT2"] + "/a", "r+b") as y, Map(x.fileno(), PAGE) as m, Map(y.fileno(), PAGE) as n:
    m.write(0, b"ONE")
    equal(n.read(0, 4), b"ONE\n", "through the other mount")
PY
umount "$MNT"
echo two >"$MNT2/b"
umount "$MNT2"
mount_fs
[ "$(cat "$MNT/a" "$MNT/b" | tr '\n' ' ')" = "ONE two " ] || fail "content"
proved "a device mounted twice is one filesystem and outlives the first unmount"
