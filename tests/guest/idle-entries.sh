# A file that was mapped and closed does not keep its inode in memory: its mapping entries go at the last close, what was stored is written back first.
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
import time
FILES = 3000

def inodes():
    with open("/proc/sys/fs/inode-nr") as f:  # of all filesystems; not slabinfo, where KASAN's quarantine counts
        return int(f.read().split()[0])

def shrink():
    for _ in range(5):
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("2")
        time.sleep(0.05)

os.mkdir(path("d"))
for i in range(FILES):
    f = os.open(path(f"d/{i}"), os.O_RDWR | os.O_CREAT)
    os.ftruncate(f, 2 * PAGE)
    m = Map(f, 2 * PAGE)
    m.write(0, struct.pack("<Q", i)) if i % 2 else m.read(PAGE, 1)
    m.close()
    os.close(f)
os.sync()  # an inode that is on the list of dirty ones is not reclaimed, whatever its pages
before = inodes()
check(before >= FILES, f"only {before} inodes in memory")
for _ in range(20):
    shrink()
    after = inodes()
    if after < before - FILES * 9 // 10:
        break
print(f"{before} inodes in memory, {after} after reclaim")
check(after < before - FILES * 3 // 4, f"inodes of mapped files stay in memory: {before} before, {after} after")
for i in range(FILES):
    f = os.open(path(f"d/{i}"), os.O_RDONLY)
    equal(os.read(f, 8), struct.pack("<Q", i if i % 2 else 0), f"content of file {i}")
    os.close(f)

# A store of another process's mapping that nobody synced is written back when its entry goes.
f = os.open(path("dirty"), os.O_RDWR | os.O_CREAT)
os.ftruncate(f, 4 * MIB)
m = aligned_map(f, 4 * MIB)
m.write(5, b"x")
m.write(2 * MIB, b"y")
with Faults() as faults:
    m.close()
    os.close(f)
equal(faults.count("dax_writeback_one"), 2, "entries written back at the last close")
with Faults() as faults:
    f = os.open(path("dirty"), os.O_RDWR)
    m = aligned_map(f, 4 * MIB)
    m.read(0, 1)
    m.close()
    os.close(f)
    f = os.open(path("dirty"), os.O_RDWR)
    os.close(f)
equal(faults.count("dax_writeback_one"), 0, "clean entries written back")

# A held page keeps its entry, its inode and its bytes; let go, the inode can be reclaimed.
f = os.open(path("held"), os.O_RDWR | os.O_CREAT)
os.write(f, b"old!" * (4 * PAGE // 4))
m = Map(f, 4 * PAGE)
m.read(PAGE, 1)
pin = PinnedPage(m, PAGE)
m.close()
os.close(f)
shrink()
equal(pin.release(), b"old!" * (PAGE // 4), "the pipe's bytes")
PY
proved "3000 inodes of mapped and closed files are reclaimed under pressure, with their content; dirty entries are written back before they go, clean ones are not"
