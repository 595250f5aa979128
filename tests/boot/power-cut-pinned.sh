# A power cut while pages of deleted and of truncated files are held: the next mount frees them in the background, umount right after the mount is clean,
# read-only leaves them.
# timeout: 200
. "$(dirname "$0")/lib.sh"

guest hold <<'SH'
mkfs.ochre -f /dev/pmem0 >/dev/null
mount -t ochre -o dax=always,layout=defer /dev/pmem0 /mnt
exec python3 - <<'PY'
from ochretest import *
import time
open(path("stays"), "w").write("stays")
for i in range(450):  # inodes and the directory have their blocks before space is looked at
    open(path(f"f{i}"), "w").close()
for i in range(450):
    os.unlink(path(f"f{i}"))
for i in range(100):
    open(path(f"t{i}"), "wb").write(pattern(PAGE, i))
os.sync()
with open("/out/base", "w") as f:
    f.write(str(os.statvfs(MNT).f_bfree))
pins = []
for i in range(300):
    f = os.open(path(f"f{i}"), os.O_RDWR | os.O_CREAT)
    fallocate(f, 0, 0, MIB)
    m = Map(f, MIB)
    m.write(5 * PAGE, b"old!" * (PAGE // 4))
    # a third is held by a pipe, a third is open, of a third a page is mapped
    if i % 3 == 0:
        pins.append(PinnedPage(m, 5 * PAGE))
    if i % 3 != 2:
        m.close()
    if i % 3 != 1:
        os.close(f)
    os.unlink(path(f"f{i}"))
for i in range(100):
    f = os.open(path(f"t{i}"), os.O_RDWR)
    fallocate(f, 0, PAGE, 63 * PAGE)
    m = Map(f, 64 * PAGE)
    m.write(30 * PAGE, b"gone" * (PAGE // 4))
    pins.append(PinnedPage(m, 30 * PAGE))
    os.ftruncate(f, PAGE)
    m.close()
    os.close(f)
with open("/out/held", "w") as f:
    f.write(str(os.statvfs(MNT).f_bfree))
os.sync()
time.sleep(600)
PY
SH

guest after <<'SH'
fsck() { fsck.ochre -n /dev/pmem0 >/tmp/fsck || { cat /tmp/fsck; exit 1; }; }
free() { stat -f -c %f /mnt; }
base=$(cat /share/base) held=$(cat /share/held)
[ $((base - held)) -ge $((300 * 256 + 100)) ] || { echo "nothing was held: $base $held"; exit 1; }
# Read-only: the journal is replayed, the files stay.
mount -t ochre -o dax=always,ro /dev/pmem0 /mnt
sleep 0.5
[ "$(free)" -lt $((base - 290 * 256)) ] || { echo "a read-only mount freed files"; exit 1; }
umount /mnt
# Mounted and unmounted at once, several times: whatever has been freed by then, it is consistent.
for i in 1 2 3; do mount -t ochre -o dax=always /dev/pmem0 /mnt; umount /mnt; fsck; done
# A remount to read-write finishes what a read-only mount left.
mount -t ochre -o dax=always,ro /dev/pmem0 /mnt
mount -o remount,rw /mnt
for i in $(seq 200); do [ "$(free)" -ge "$base" ] && break; sleep 0.05; done
[ "$(free)" -ge "$base" ] || { echo "blocks of deleted files did not come back: $(free) of $base"; exit 1; }
python3 - <<'PY'
from ochretest import *
for i in range(100):
    f = os.open(path(f"t{i}"), os.O_RDWR)
    equal((os.fstat(f).st_size, os.fstat(f).st_blocks), (PAGE, 8), f"size and blocks of t{i}")
    os.ftruncate(f, 64 * PAGE)
    equal(os.pread(f, 64 * PAGE, 0), pattern(PAGE, i) + bytes(63 * PAGE), f"t{i}, grown again")
    os.ftruncate(f, PAGE)
    os.close(f)
PY
[ "$(cat /mnt/stays)" = stays ] || { echo "content"; exit 1; }
umount /mnt
fsck
SH

PMEM=512M PMEM_DIR=$work/pmem KILL_OK=1 RUNDIR=$work/hold OUT=$work/hold/result SHARE=$work/share \
    "$TOP/qemu/run" "$work/hold.sh" &
vm=$!
until [ -s "$work/hold/out/held" ]; do
    kill -0 $vm 2>/dev/null || { wait $vm || fail "exit status $?"; fail "it ended"; }
    sleep 0.1
done
sleep 0.5
kill -9 "$(cat "$work/hold/qemu.pid")"
rc=0
wait $vm || rc=$?
[ $rc = 137 ] || fail "exit status $rc"
cp "$work/hold/out/base" "$work/hold/out/held" "$work/share/"
export PMEM=512M PMEM_DIR=$work/pmem
boot after after || fail "after the power cut"
rm -rf "$work/pmem"
proved "300 deleted files with held, open and mapped pages, and 100 truncated ones with held pages at a power cut: finished in the background, clean at umount right after mount, left alone by a read-only mount"
