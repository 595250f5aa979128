# A partition of a pmem device carries a filesystem, with huge pages when it is aligned; two partitions carry two.
# only: ochre
. "$(dirname "$0")/lib.sh"
no_fsck
wipefs -qa "$DEV" || true
trap 'umount "$MNT" "$MNT2" 2>/dev/null || true; wipefs -qa "$DEV" || true; partprobe "$DEV" 2>/dev/null || true' EXIT
sfdisk -q --wipe always "$DEV" <<PARTS
label: gpt
start=2MiB, size=600MiB
start=602MiB, size=600MiB
PARTS
udevadm settle 2>/dev/null || true
for _ in $(seq 50); do [ -b "${DEV}p2" ] && break; sleep 0.1; done
mkfs.ochre -f "${DEV}p1" >/dev/null
mkfs.ochre -f "${DEV}p2" >/dev/null
mount_fs "${DEV}p1" "$MNT"
mount_fs "${DEV}p2" "$MNT2"
python3 - <<'PY'
from ochretest import *
for at, salt in ((MNT, 1), (os.environ["MNT2"], 2)):
    f = os.open(at + "/f", os.O_RDWR | os.O_CREAT)
    fallocate(f, 0, 0, 32 * MIB)
    with aligned_map(f, 32 * MIB, MAP_SHARED_VALIDATE | MAP_SYNC) as m:
        m.write(0, pattern(32 * MIB, salt))
        equal(huge_pages(m), 32 * MIB, f"bytes on 2 MiB entries in {at}")
    os.close(f)
PY
umount "$MNT" "$MNT2"
fsck.ochre "${DEV}p1" >/dev/null && fsck.ochre "${DEV}p2" >/dev/null || fail "fsck"
mount_fs "${DEV}p2"
python3 -c 'from ochretest import *; equal(open(path("f"), "rb").read(), pattern(32 * MIB, 2), "the second partition")'
proved "two partitions of one namespace hold two filesystems, MAP_SYNC and 2 MiB pages in both"
