# Memory declared as pmem by the memmap= boot parameter carries a filesystem, with 2 MiB pages and MAP_SYNC.
. "$(dirname "$0")/lib.sh"
guest use <<'SH'
grep -q 'memmap=' /proc/cmdline
dev=/dev/$(basename "$(ls -d /sys/block/pmem* | head -n 1)")
mode=$(ndctl list -N | grep -c '"mode":"fsdax"' || true)
if [ "$mode" = 0 ]; then
    ns=$(ndctl list -N -i | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["dev"])')
    ndctl create-namespace -f -e "$ns" -m fsdax -M mem -a 2M >/dev/null
    udevadm settle || true
    dev=/dev/$(ndctl list -N -n "$ns" | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["blockdev"])')
fi
mkfs.ochre -f "$dev" | tail -n 2
mount -t ochre -o dax "$dev" /mnt
python3 - <<'PY'
from ochretest import *
f = os.open(path("f"), os.O_RDWR | os.O_CREAT)
fallocate(f, 0, 0, 32 * MIB)
m = aligned_map(f, 32 * MIB, MAP_SHARED_VALIDATE | MAP_SYNC)
m.write(0, pattern(32 * MIB))
equal(huge_pages(m), 32 * MIB, "bytes on 2 MiB entries")
equal(os.pread(f, 32 * MIB, 0), pattern(32 * MIB), "bytes")
PY
umount /mnt
fsck.ochre "$dev" | tail -n 1
SH
PMEM=0 MEM=3G APPEND='memmap=512M!1G' boot one use || fail "exit status $?"
proved "pmem from memmap=512M!1G: mkfs, mount, MAP_SYNC, 2 MiB pages, fsck clean"
