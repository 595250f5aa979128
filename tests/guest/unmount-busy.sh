# Unmount is EBUSY while a file is open or only mapped; a lazy unmount lets the mapping live on, and the device is free afterwards.
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
umount = lambda flags=0: raise_errno(libc.umount2(MNT.encode(), flags))
f = os.open(path("f"), os.O_CREAT | os.O_RDWR)
os.ftruncate(f, 2 * PAGE)
refused("EBUSY", umount, "with an open file")
m = Map(f, 2 * PAGE)
os.close(f)
m.write(0, b"mapped")
refused("EBUSY", umount, "with a mapping")
umount(2)  # MNT_DETACH
m.write(PAGE, b"detached")
equal(m.read(0, 6), b"mapped", "mapping after a lazy unmount")
m.sync()
PY
for _ in $(seq 100); do mount_fs 2>/dev/null && break; sleep 0.1; done
[ "$(head -c 6 "$MNT/f")" = mapped ] && [ "$(tail -c +4097 "$MNT/f" | head -c 8)" = detached ] || fail "bytes"
proved "EBUSY while open or mapped; a lazily unmounted mapping stays good, its bytes are there at the next mount"
