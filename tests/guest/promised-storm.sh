# A full filesystem, preallocated space, and writes into every second page of it: none fails, and pages mapped before show them all.
# only: ochre
. "$(dirname "$0")/lib.sh"
command -v dmsetup >/dev/null || skip "no dmsetup"
modprobe dm-mod 2>/dev/null || true
# Small, so that the blocks for extent trees run out soon.
dmsetup create small --table "0 $((64 * 2048)) linear $DEV 0"
trap 'umount "$MNT" 2>/dev/null; dmsetup remove --retry small' EXIT
SMALL=/dev/mapper/small
mkfs.ochre -f "$SMALL" >/dev/null
mount_fs "$SMALL"
python3 - <<'PY'
from ochretest import *
N = 32 * MIB
PAGES = N // PAGE
pre = os.open(path("promised"), os.O_RDWR | os.O_CREAT)
fallocate(pre, 0, 0, N)
f = os.open(path("filler"), os.O_RDWR | os.O_CREAT)
size = 0
for piece in (MIB, PAGE):
    try:
        while True:
            size += os.pwrite(f, b"f" * piece, size)
    except OSError as e:
        equal(errno.errorcode[e.errno], "ENOSPC", "filling")
# Names take what data cannot have.
try:
    for i in range(100000):
        os.mkdir(path(f"{i:0200}"))
except OSError as e:
    equal(errno.errorcode[e.errno], "ENOSPC", "mkdir")
# Somebody looks at all of it: pages of zeros.
m = aligned_map(pre, N)
for o in range(0, N, PAGE):
    equal(m.read(o, 1), b"\0", "before")
rnd = seed()
order = list(range(0, PAGES, 2))
rnd.shuffle(order)
model = {}
for n, page in enumerate(order):
    text = b"%08d" % (n + 1)
    if n % 5 == 4:
        m.write(page * PAGE, text)
    else:
        equal(os.pwrite(pre, text, page * PAGE), 8, "a promised page")
    model[page] = text
    # A neighbour may have been made a written block on the way: what is written there now must be seen.
    if n % 7 == 0:
        near = (page + 1) % PAGES
        text = b"%08d" % (5000000 + n)
        os.pwrite(pre, text, near * PAGE)
        equal(m.read(near * PAGE, 8), text, f"mapped page {near} after write {n}")
        model[near] = text
for page in range(PAGES):
    want = model.get(page, bytes(8)) + bytes(PAGE - 8)
    equal(m.read(page * PAGE, PAGE), want, f"mapped page {page}")
    equal(os.pread(pre, PAGE, page * PAGE), want, f"page {page}")
m.close()
PY
unmount_fs
check_fs "$SMALL" || fail "fsck after the storm"
dmsetup remove --retry small
trap - EXIT
no_fsck
proved "4,096 pages of preallocated space on a full filesystem took writes and faults in any order; mappings saw them"
