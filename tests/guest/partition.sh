# A partition of a pmem device carries a filesystem, with huge pages when it is aligned; two partitions carry two, used in turn.
# only: ochre
. "$(dirname "$0")/lib.sh"
no_fsck
wipefs -qa "$DEV" || true
trap 'umount "$MNT" 2>/dev/null || true; wipefs -qa "$DEV" || true; blockdev --rereadpt "$DEV" 2>/dev/null || true' EXIT
sfdisk -q --wipe always "$DEV" <<'PARTS'
label: gpt
start=2MiB, size=600MiB
start=602MiB, size=600MiB
PARTS
udevadm settle 2>/dev/null || true
for _ in $(seq 50); do [ -b "${DEV}p2" ] && break; sleep 0.1; done
for p in 1 2; do mkfs.ochre -f "${DEV}p$p" >/dev/null; done
for p in 1 2; do
    mount_fs "${DEV}p$p"
    python3 - $p <<'PY'
from ochretest import *
salt = int(sys.argv[1])
f = os.open(path("f"), os.O_RDWR | os.O_CREAT)
fallocate(f, 0, 0, 32 * MIB)
with aligned_map(f, 32 * MIB, MAP_SHARED_VALIDATE | MAP_SYNC) as m:
    m.write(0, pattern(32 * MIB, salt))
    equal(huge_pages(m), 32 * MIB, f"bytes on 2 MiB entries in partition {salt}")
PY
    # The kernel lends a namespace's memory to one holder at a time.
    [ $p = 2 ] || MNT=$MNT2 mount_refused EBUSY 'held by another' "${DEV}p2"
    unmount_fs
    fsck.ochre "${DEV}p$p" >/dev/null || fail "fsck of partition $p"
done
for p in 2 1; do
    mount_fs "${DEV}p$p"
    python3 -c 'from ochretest import *; equal(open(path("f"), "rb").read(), pattern(32 * MIB, int(sys.argv[1])), "a partition")' $p
    unmount_fs
done
proved "two partitions of one namespace hold two filesystems with MAP_SYNC and 2 MiB pages, one mounted at a time (EBUSY says so)"
