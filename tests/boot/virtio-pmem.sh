# virtio-pmem: data is durable at fsync (a power cut proves it), and MAP_SYNC is refused with EOPNOTSUPP since its flush is asynchronous.
. "$(dirname "$0")/lib.sh"
guest write <<'SH'
dev=$VIRTIO_PMEM_DEV
mkfs.ochre -f "$dev" | tail -n 2
mount -t ochre -o dax "$dev" /mnt
python3 - <<'PY'
from ochretest import *
f = os.open(path("f"), os.O_RDWR | os.O_CREAT)
os.ftruncate(f, 16 * MIB)
refused("EOPNOTSUPP", lambda: Map(f, 16 * MIB, MAP_SHARED_VALIDATE | MAP_SYNC), "MAP_SYNC")
m = aligned_map(f, 16 * MIB)
m.write(0, pattern(4 * MIB))
m.sync(0, 4 * MIB)
os.pwrite(f, pattern(4 * MIB, 7), 8 * MIB)
os.fsync(f)
for i in range(200):
    g = os.open(path(f"g{i}"), os.O_RDWR | os.O_CREAT)
    os.write(g, pattern(5000, i))
    os.fsync(g)
    os.close(g)
d = os.open(MNT, os.O_RDONLY)
os.fsync(d)
open("/out/ready", "w").close()
import time
time.sleep(1000)
PY
SH
guest check <<'SH'
dev=$VIRTIO_PMEM_DEV
mount -t ochre -o dax "$dev" /mnt
python3 - <<'PY'
from ochretest import *
data = open(path("f"), "rb").read()
equal(len(data), 16 * MIB, "size")
equal(data[:4 * MIB], pattern(4 * MIB), "what was msynced")
equal(data[8 * MIB:12 * MIB], pattern(4 * MIB, 7), "what was fsynced")
for i in range(200):
    equal(open(path(f"g{i}"), "rb").read(), pattern(5000, i), "file")
PY
umount /mnt
fsck.ochre "$dev" | tail -n 1
SH
export PMEM=0 VIRTIO_PMEM=512M PMEM_DIR=$work/pmem
KILL_OK=1 boot one write &
vm=$!
until [ -e "$work/one/out/ready" ]; do kill -0 $vm 2>/dev/null || { wait $vm || fail "exit status $?"; }; sleep 0.2; done
kill -9 "$(cat "$work/one/qemu.pid")"
wait $vm || true
boot two check || fail "after the power cut: exit status $?"
rm -rf "$PMEM_DIR"
proved "virtio-pmem: MAP_SYNC gives EOPNOTSUPP; msync'ed, fsync'ed and 200 small files are there after a power cut, fsck clean"
