# umount waits for pages that a stranger holds, says for whom every 10 s, and leaves a clean filesystem.
# timeout: 90
. "$(dirname "$0")/lib.sh"
mount_fs
log_mark
mkfifo /tmp/go
python3 - <<'PY' &
from ochretest import *
pins = []
for name in ("deleted", "kept"):
    f = os.open(path(name), os.O_RDWR | os.O_CREAT)
    os.write(f, b"old!" * (16 * PAGE // 4))
    m = Map(f, 16 * PAGE)
    m.read(5 * PAGE, 1)
    pins.append(PinnedPage(m, 5 * PAGE))
    m.close()
    os.close(f)
os.unlink(path("deleted"))
open("/tmp/ready", "w").close()
open("/tmp/go").read()
for pin in pins:
    equal(pin.release(), b"old!" * (PAGE // 4), "the pipe's bytes")
PY
holder=$!
until [ -e /tmp/ready ]; do sleep 0.1; done
umount $MNT &
unmounter=$!
# It says so every 10 s.
for _ in $(seq 400); do
    [ "$(log_since | grep -cE 'pmem0: unmount waits for page 5 of inode [0-9]+')" -lt 2 ] || break
    [ -d /proc/$unmounter ] || fail "umount did not wait for a held page"
    sleep 0.1
done
[ "$(log_since | grep -cE 'pmem0: unmount waits for page 5 of inode [0-9]+')" -ge 2 ] || fail "not said twice: $(log_since)"
echo >/tmp/go
wait $holder || fail "the holder"
wait $unmounter || fail "umount"
fsck.ochre $DEV >/dev/null || fail "fsck"
mount_fs
[ "$(ls $MNT)" = kept ] || fail "files: $(ls $MNT)"
[ "$(head -c 4 $MNT/kept)" = 'old!' ] || fail "content"
proved "umount waits for held pages of a deleted and of a kept file, says so every 10 s, ends after the release, fsck clean"
