# O_DIRECT is accepted and reads and writes the same bytes as everything else.
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
import mmap
f = os.open(path("f"), os.O_RDWR | os.O_CREAT | os.O_DIRECT)
buf = mmap.mmap(-1, 64 * 1024)
buf[:] = pattern(64 * 1024)
equal(os.pwritev(f, [buf], 4096), 65536, "write")
g = os.open(path("f"), os.O_RDONLY)
equal(os.pread(g, 70000, 0), bytes(4096) + buf[:], "buffered read of a direct write")
back = mmap.mmap(-1, 64 * 1024)
equal(os.preadv(f, [back], 4096), 65536, "direct read")
equal(back[:], buf[:], "bytes")
with Map(f, 69632) as m:
    m.write(5000, b"mapped")
    os.preadv(f, [memoryview(back)[:4096]], 4096)
    equal(back[904:910], b"mapped", "direct read of a mapped store")
PY
dd if="$MNT/f" of="$MNT/g" bs=4k iflag=direct oflag=direct status=none
cmp "$MNT/f" "$MNT/g"
proved "O_DIRECT reads and writes, coherent with read and mmap"
