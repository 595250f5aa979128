# A power cut after stores through mmap: what msync covered is there, and what MAP_SYNC stores put into holes and preallocated blocks without any msync; unlinked and
# truncated files are finished, preallocated space stays zero.
. "$(dirname "$0")/lib.sh"
guest write <<'SH'
mkfs.ochre -f /dev/pmem0 >/dev/null
mount -t ochre -o dax /dev/pmem0 /mnt
python3 - <<'PY'
from ochretest import *
f = os.open(path("mapped"), os.O_RDWR | os.O_CREAT)
os.ftruncate(f, 32 * MIB)
m = aligned_map(f, 32 * MIB, MAP_SHARED_VALIDATE | MAP_SYNC)
for o in range(0, 32 * MIB, 3 * PAGE):
    m.write(o, pattern(64, o))
m.sync()
# From here to the power cut nobody syncs: a write fault with MAP_SYNC returns when the file has the block for good. (That the process
# has to write back its lines is another matter: the memory of this machine keeps what was stored.)
s = os.open(path("synced"), os.O_RDWR | os.O_CREAT)
os.ftruncate(s, 24 * MIB)
fallocate(s, 0, 8 * MIB, 8 * MIB)
os.pwrite(s, b"4 KiB pages", 3 * PAGE)  # since the first 2 MiB are no whole hole then
m = aligned_map(s, 24 * MIB, MAP_SHARED_VALIDATE | MAP_SYNC)
for o in range(0, 24 * MIB, 5 * PAGE):
    m.write(o, pattern(64, o + 1))
g = os.open(path("written"), os.O_RDWR | os.O_CREAT)
for i in range(300):
    os.pwrite(g, pattern(1000, i), i * 1000)
h = os.open(path("preallocated"), os.O_RDWR | os.O_CREAT)
fallocate(h, 0, 0, 16 * MIB)
big = os.open(path("big"), os.O_RDWR | os.O_CREAT)
for o in range(0, 64 * MIB, 2 * PAGE):
    os.pwrite(big, b"x" * PAGE, o)
with open("/out/free", "w") as out:
    out.write(str(os.statvfs(MNT).f_bfree))
kept = os.open(path("unlinked"), os.O_RDWR | os.O_CREAT)
os.write(kept, b"y" * 20 * MIB)
os.unlink(path("unlinked"))
os.ftruncate(big, 64 * MIB)
open("/out/ready", "w").close()
import time
time.sleep(1000)
PY
SH
guest check <<'SH'
mount -t ochre -o dax /dev/pmem0 /mnt
python3 - <<'PY'
from ochretest import *
import time
f = open(path("mapped"), "rb").read()
for o in range(0, 32 * MIB, 3 * PAGE):
    equal(f[o:o + 64], pattern(64, o), f"stores at {o}")
f = open(path("synced"), "rb").read()
equal(len(f), 24 * MIB, "size of a file stored to by MAP_SYNC")
for o in range(0, 24 * MIB, 5 * PAGE):
    equal(f[o:o + 64], pattern(64, o + 1), f"MAP_SYNC stores at {o}, never synced")
equal(sum(n != 0 for n in f[64:PAGE]), 0, "beside a MAP_SYNC store")
g = open(path("written"), "rb").read()
equal(g, b"".join(pattern(1000, i) for i in range(300)), "writes without fsync")
equal(open(path("preallocated"), "rb").read().count(0), 16 * MIB, "preallocated space")
check(0 <= os.stat(path("big")).st_blocks - 64 * 1024 < 1024, "blocks of a sparse file (some more for its tree)")
check(not os.path.exists(path("unlinked")), "the unlinked name")
free = int(open("/share/free").read())
for _ in range(100):  # orphans may be finished in the background
    if os.statvfs(MNT).f_bfree >= free:
        break
    time.sleep(0.1)
check(os.statvfs(MNT).f_bfree >= free, f"an unlinked file's blocks come back: {os.statvfs(MNT).f_bfree} of {free}")
PY
umount /mnt
fsck.ochre /dev/pmem0 | tail -n 1
SH
export PMEM=512M PMEM_DIR=$work/pmem
KILL_OK=1 boot one write &
vm=$!
until [ -e "$work/one/out/ready" ]; do kill -0 $vm 2>/dev/null || { wait $vm || fail "exit status $?"; }; sleep 0.2; done
kill -9 "$(cat "$work/one/qemu.pid")"
wait $vm || true
cp "$work/one/out/free" "$work/share/free"
boot two check || fail "after the power cut: exit status $?"
rm -rf "$PMEM_DIR"
proved "after a power cut: mapped stores, MAP_SYNC stores without any sync, unsynced writes and preallocated zeros are right, an open unlinked file's blocks are free again"
