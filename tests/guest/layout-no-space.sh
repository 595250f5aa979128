# The last blocks of a filesystem are held by a pipe, and let go: the very next call that needs one gets it, a name as well as data.
# only: ochre
# timeout: 200
. "$(dirname "$0")/lib.sh"
no_fsck
modprobe dm-mod
trap 'umount "$MNT" 2>/dev/null || true; dmsetup remove_all >/dev/null 2>&1 || true' EXIT
dmsetup create small --table "0 49152 linear $DEV 8192"
mkfs.ochre -f /dev/mapper/small >/dev/null
mount_fs /dev/mapper/small
python3 - <<'PY'
from ochretest import *
import time

def fill():
    """Until neither data nor names get a block."""
    g = os.open(path("filler"), os.O_RDWR | os.O_CREAT)
    end = 0
    for step in (MIB, 64 * 1024, PAGE):
        try:
            while True:
                fallocate(g, 0, end, step)
                end += step
        except OSError as e:
            equal(errno.errorcode[e.errno], "ENOSPC", "filling")
    os.close(g)
    made = 0
    for size in (4000, 1000):
        try:
            while True:
                os.symlink("t" * size, path(f"full/{size}-{made}"))
                made += 1
        except OSError as e:
            equal(errno.errorcode[e.errno], "ENOSPC", "filling with names")

def empty():
    os.unlink(path("filler"))
    for name in os.listdir(path("full")):
        os.unlink(path("full/" + name))

def tmpfile(d):
    t = os.open(d, os.O_TMPFILE | os.O_RDWR)
    link_open_file(t, d + "/x")
    os.close(t)

def written(d):
    h = os.open(path("hole"), os.O_RDWR)
    equal(os.pwrite(h, b"data", 0), 4, "write")
    os.close(h)

def stored(d):
    h = os.open(path("hole"), os.O_RDWR)
    with Map(h, 8 * PAGE) as m:
        m.write(4 * PAGE, b"data")
    os.close(h)

calls = {
    "create": lambda d: os.close(os.open(d + "/x", os.O_CREAT)),
    "mkdir": lambda d: os.mkdir(d + "/x"),
    "mknod": lambda d: os.mkfifo(d + "/x"),
    "symlink": lambda d: os.symlink("t" * 4000, d + "/x"),
    "link": lambda d: os.link(path("one"), d + "/x"),
    "rename": lambda d: os.rename(path("one"), d + "/x"),
    "tmpfile": tmpfile,
    "write": written,
    "fault": stored,
}
os.mkdir(path("full"))
open(path("one"), "w").close()
with open(path("hole"), "w") as h:
    h.truncate(8 * PAGE)
for name in calls:
    os.mkdir(path("d-" + name))
for name, call in calls.items():
    f = os.open(path("f"), os.O_RDWR | os.O_CREAT)
    fallocate(f, 0, 0, 64 * PAGE)
    m = Map(f, 64 * PAGE)
    m.write(0, pattern(64 * PAGE))
    # The mount's thread waits for the first one, and looks at the others from time to time.
    first, others = PinnedPage(m, 2 * PAGE), [PinnedPage(m, o * PAGE, 14 * PAGE) for o in (4, 20, 36)]
    os.ftruncate(f, 0)
    fill()
    refused("ENOSPC", lambda: call(path("d-" + name)), f"{name} on a full filesystem") if name not in ("fault", "tmpfile") else None
    time.sleep(0.6)
    for other in others:
        other.release()
    call(path("d-" + name))
    first.release()
    m.close()
    os.close(f)
    os.unlink(path("f"))
    empty()
PY
unmount_fs
fsck.ochre /dev/mapper/small >/dev/null || fail "fsck"
proved "create, mkdir, mknod, symlink, link, rename, tmpfile, write and fault get blocks that were let go a moment before"
