# A filesystem damaged offline in six places: mount and use say so, fsck.ochre -n shows, -p leaves it, fsck -y repairs it; the files are there, bytes and all.
# only: ochre
# timeout: 120
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
import hashlib
os.mkdir(path("d"))
sums = open("/tmp/sums", "w")
for i in range(600):
    name = path(f"d/name-{i:04}-to-be-found-on-the-medium")
    data = (b"%d\n" % i) * 50
    with open(name, "wb") as f:
        f.write(data)
    print(hashlib.sha256(data).hexdigest(), "", name, file=sums)
fd = os.open(path("sparse"), os.O_RDWR | os.O_CREAT)
for i in range(600):
    os.pwrite(fd, b"%04d" % i * 1024, i * 2 * PAGE)
os.close(fd)
data = open(path("sparse"), "rb").read()
print(hashlib.sha256(data).hexdigest(), "", path("sparse"), file=sums)
os.symlink("t" * 3000, path("link"))
sums.close()
open("/tmp/inodes", "w").write(f"{os.stat(path('d')).st_ino} {os.stat(path('sparse')).st_ino}")
PY
unmount_fs
# The damage: index nodes of a directory and of a file, words of records, a bitmap, a group's header, the superblock.
cat >/tmp/damage.py <<'PY'
from ochretest import *
directory, sparse = map(int, open("/tmp/inodes").read().split())
fd = os.open(os.environ["DEV"], os.O_RDWR)
superblock = os.pread(fd, 512, 0)
ag = struct.unpack_from("<Q", superblock, 144)[0]
found = {}
for block in range(ag + 512, ag + 512 + 16384):
    data = os.pread(fd, PAGE, block * PAGE)
    magic, level, count, _, number, owner = struct.unpack_from("<4sHHQQQ", data)
    if magic in (b"ODIX", b"OXIX") and number == block:
        found[magic, owner] = block
    for at in range(0, PAGE, 256):
        if data[at : at + 4] == b"OINO":
            found["inode", struct.unpack_from("<Q", data, at + 16)[0]] = block * PAGE + at
os.pwrite(fd, b"\0" * PAGE, found[b"ODIX", directory] * PAGE)
os.pwrite(fd, b"\xff" * 100, found[b"OXIX", sparse] * PAGE + 60)
os.pwrite(fd, b"\x07", found["inode", directory] + 28)
os.pwrite(fd, b"\0" * 64, (ag + 1) * PAGE + 64)
os.pwrite(fd, b"\x55" * 32, ag * PAGE)
os.pwrite(fd, b"\xaa" * 8, 200)
os.fsync(fd)
PY
python3 /tmp/damage.py
if mount_fs 2>/tmp/log; then
    ls -l "$MNT/d" >/tmp/log 2>&1 && fail "a damaged directory was listed"
    grep -q 'needs cleaning' /tmp/log || fail "listing said $(tail -1 /tmp/log)"
    unmount_fs
fi
dmesg | grep -q 'ochre.*damaged' || fail "nothing in the kernel's log"
status=0
fsck.ochre -n "$DEV" >/tmp/log || status=$?
[ $status = 4 ] || fail "fsck.ochre -n: $status: $(cat /tmp/log)"
grep -q 'would be done' /tmp/log || fail "-n does not show what would be done: $(cat /tmp/log)"
status=0
fsck.ochre -p "$DEV" >/tmp/log || status=$?
[ $status = 4 ] && grep -q 'manually' /tmp/log || fail "fsck.ochre -p: $status: $(cat /tmp/log)"
status=0
fsck.ochre "$DEV" </dev/null >/tmp/log 2>&1 || status=$?
[ $status = 4 ] && grep -q 'use -y' /tmp/log || fail "fsck.ochre without a terminal: $status: $(cat /tmp/log)"
# By way of fsck(8).
status=0
fsck -t ochre "$DEV" -- -y >/tmp/repair 2>&1 || status=$?
[ $status = 1 ] || fail "fsck -y: $status: $(cat /tmp/repair)"
fsck.ochre -f -n "$DEV" >/tmp/log || fail "a second check: $(cat /tmp/log)"
mount_fs
sha256sum --quiet -c /tmp/sums || fail "a file has other bytes: $(cat /tmp/repair)"
[ "$(readlink "$MNT/link")" = "$(printf 't%.0s' $(seq 3000))" ] || fail "the symbolic link"
[ ! -e "$MNT/lost+found" ] || fail "nothing had lost its name"
# It goes on working.
rm -r "$MNT/d"
cp "$MNT/sparse" "$MNT/copy"
unmount_fs
fsck.ochre -f -n "$DEV" >/tmp/log || fail "after more work: $(cat /tmp/log)"
if mount_fs; then
    status=0
    fsck.ochre -y "$DEV" >/tmp/log 2>&1 || status=$?
    [ $status = 8 ] || fail "fsck.ochre on a mounted device: $status"
    unmount_fs
fi
proved "index nodes, a record, a bitmap, a group header and the superblock damaged: $(grep -c '^done' /tmp/repair) repairs, all 601 files have their bytes; -n 4, -p 4, -y 1, mounted 8"
