# A metadata block damaged on the medium: EUCLEAN for what needs it, one log line, the filesystem goes read-only, fsck.ochre names it; no crash.
# only: ochre
. "$(dirname "$0")/lib.sh"
no_fsck
mount_fs
python3 - <<'PY'
from ochretest import *
os.mkdir(path("d"))
for i in range(300):
    open(path(f"d/name-{i:04}-to-be-found-on-the-medium"), "w").close()
PY
echo fine >"$MNT/other"
unmount_fs
python3 - <<'PY'
from ochretest import *
fd = os.open("/dev/pmem0", os.O_RDWR)
hits = []
for o in range(0, 512 * MIB, 4 * MIB):
    data = os.pread(fd, 4 * MIB, o)
    at = -1
    while (at := data.find(b"name-0150-to-be-found", at + 1)) >= 0:
        hits.append(o + at)
check(hits, "the name is on the medium")
for h in hits:  # the journal's copy as well, which must not matter after a clean unmount
    os.pwrite(fd, b"Name-0150-to-be-lost!", h)
os.fsync(fd)
PY
log_mark
mount_fs
python3 - <<'PY'
from ochretest import *
equal(errno_name(lambda: os.listdir(path("d"))), "EUCLEAN", "listing a damaged directory")
equal(errno_name(lambda: os.stat(path("d/name-0150-to-be-found-on-the-medium"))), "EUCLEAN", "looking up in it")
equal(errno_name(lambda: os.close(os.open(path("new"), os.O_CREAT))), "EROFS", "the filesystem is read-only now")
equal(open(path("other")).read(), "fine\n", "what is not damaged can still be read")
PY
logged_once 'damaged: .* at byte 0x'
unmount_fs
if fsck.ochre "$DEV" >/tmp/log 2>&1; then fail "fsck.ochre found nothing"; fi
proved "a damaged directory leaf: EUCLEAN, one log line with its address, read-only from then on, the rest readable; fsck sees it: $(grep -Eim1 'director|checksum|damage' /tmp/log)"
