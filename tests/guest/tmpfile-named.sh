# A file without a name that can still get one (O_TMPFILE, linkat) loses nothing of what was stored through a mapping when it is closed; a deleted one's dirty marks are dropped.
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *

def written_back(flags, name, how):
    """How many entries are written back, from a store through a mapping on: at the last close of a file that an O_PATH descriptor keeps, then by fsync if it got a name."""
    f = os.open(MNT if flags & os.O_TMPFILE == os.O_TMPFILE else path(name), flags, 0o600)
    os.write(f, bytes(2 * HUGE))
    if how == "deleted":
        os.unlink(path(name))
    p = os.open(f"/proc/self/fd/{f}", os.O_PATH)
    m = aligned_map(f, 2 * HUGE)
    with Faults() as faults:
        m.write(PAGE, b"kept")
        m.close()
        os.close(f)
        if how == "named":
            link_open_file(p, path(name))
            f = os.open(path(name), os.O_RDWR)
            os.fsync(f)
            equal(os.pread(f, 4, PAGE), b"kept", name)
            os.close(f)
    os.close(p)
    return faults.count("dax_writeback_one")

NEW = os.O_RDWR | os.O_CREAT
equal(written_back(NEW, "ordinary", "ordinary"), 1, "an ordinary file")
equal(written_back(os.O_TMPFILE | os.O_RDWR, "linked", "named"), 1, "a file that gets its name after the last close")
equal(written_back(os.O_TMPFILE | os.O_RDWR, "not-linked", "none"), 1, "a file that could have got a name")
if FSTYPE == "ochre":
    equal(written_back(NEW, "deleted", "deleted"), 0, "a deleted file")
    equal(written_back(os.O_TMPFILE | os.O_RDWR | os.O_EXCL, "never", "none"), 0, "a file that can never have a name")
PY
proved "what was stored through a mapping of a file that gets its name after its last close is written back; that of a deleted file is not"
