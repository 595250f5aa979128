# A file that was mapped and is idle does not keep its inode in memory: entries go at the last close, or else when the inode leaves the cache of names. Without that it stays for ever.
# test-build
# only: ochre
# timeout: 240
. "$(dirname "$0")/lib.sh"
python3 - <<'PY'
from racing import *
FILES = 300

def in_memory():
    """Inodes that are in memory, of all filesystems: nobody else makes many meanwhile."""
    with open("/proc/sys/fs/inode-nr") as f:
        return int(f.read().split()[0])

def idle(removed):
    os.mkdir(path("d"))
    m = None
    for i in range(FILES):
        f = make(f"d/{i}", 4 * PAGE)
        m = Map(f, 4 * PAGE)
        if i % 3 == 0:
            m.read(2 * PAGE, 1)  # the zero page
        elif i % 3 == 1:
            m.write(2 * PAGE, b"mine")
        else:
            os.pwrite(f, b"mine" * PAGE, 0)
            m.read(2 * PAGE, 1)
        m.close()
        os.close(f)
    os.sync()  # an inode on the list of dirty ones stays, whatever its pages
    before = in_memory()

    def reclaimed():
        for _ in range(3):
            with open("/proc/sys/vm/drop_caches", "w") as f:
                f.write("2")
        return before - in_memory() >= FILES * 9 // 10
    if removed:
        for _ in range(20):
            check(not reclaimed(), "without it inodes of idle files stay in memory, or the test is blind")
        return
    poll(reclaimed, lambda: f"inodes of idle files stay in memory: {before} before, {in_memory()} now")
    for i in range(FILES):
        with open(path(f"d/{i}"), "rb") as f:
            equal(f.read()[2 * PAGE:2 * PAGE + 4], b"mine" if i % 3 else bytes(4), f"file {i}")

removing(idle, "drop-idle")
PY
proved "inodes of mapped and closed files leave memory under pressure, with what was stored; where entries stay, they stay, too"
