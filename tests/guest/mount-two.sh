# Two filesystems mounted at once do not know of each other.
# devices: 2
. "$(dirname "$0")/lib.sh"
mount_fs "$DEV" "$MNT"
mount_fs "$DEV2" "$MNT2"
python3 - <<'PY'
from ochretest import *
one, two = MNT, os.environ["MNT2"]
check(os.stat(one).st_dev != os.stat(two).st_dev, "same st_dev")
for i in range(300):
    for at in (one, two):
        with open(f"{at}/f{i}", "w") as f:
            f.write(f"{at} {i}")
for i in range(0, 300, 2):
    os.unlink(f"{one}/f{i}")
for i in range(300):
    equal(open(f"{two}/f{i}").read(), f"{two} {i}", "file of the second")
    equal(os.path.exists(f"{one}/f{i}"), i % 2 == 1, "file of the first")
refused("EXDEV", lambda: os.rename(f"{one}/f1", f"{two}/f1x"), "rename across")
refused("EXDEV", lambda: os.link(f"{one}/f1", f"{two}/f1x"), "link across")
PY
umount "$MNT"
[ "$(cat "$MNT2/f7")" = "$MNT2 7" ] || fail "the second lost its file"
umount "$MNT2"
check_fs "$DEV2" || fail "the second is not clean"
proved "two mounted filesystems hold different files under the same names; EXDEV between them"
