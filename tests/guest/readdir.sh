# readdir of 20,000 entries: each once; while others are inserted and removed, those that stay are seen exactly once; telldir/seekdir.
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
rnd = seed()
N = 20000
d = path("big")
os.mkdir(d)
dfd = os.open(d, os.O_RDONLY)
for i in range(N):
    os.close(os.open(f"stay{i}", os.O_CREAT, dir_fd=dfd))
os.close(dfd)
want = {f"stay{i}" for i in range(N)}
seen = os.listdir(d)
equal((len(seen), set(seen)), (N, want), "a quiet listing")

class Dirent(ctypes.Structure):
    _fields_ = [("ino", ctypes.c_uint64), ("off", ctypes.c_int64), ("reclen", ctypes.c_ushort), ("type", ctypes.c_ubyte), ("name", ctypes.c_char * 256)]
libc.opendir.restype = ctypes.c_void_p
libc.readdir.restype = ctypes.POINTER(Dirent)
for f in (libc.readdir, libc.telldir, libc.closedir, libc.rewinddir):
    f.argtypes = [ctypes.c_void_p]
libc.telldir.restype = ctypes.c_long
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
D = libc.opendir(d.encode())

def names(limit=None):
    out = []
    while limit is None or len(out) < limit:
        e = libc.readdir(D)
        if not e:
            break
        out.append(e.contents.name.decode())
    return out

# Names come and go while the listing is under way.
seen, k, extra = [], 0, []
while part := names(700):
    seen += part
    for _ in range(60):
        os.close(os.open(f"{d}/new{k}", os.O_CREAT))
        extra.append(f"new{k}")
        k += 1
    rnd.shuffle(extra)
    for _ in range(30):
        os.unlink(f"{d}/{extra.pop()}")
stay = [n for n in seen if n.startswith("stay")]
equal((len(stay), set(stay)), (N, want), "entries that were there all the time, while others came and went")
equal(len(seen), len(set(seen)), "no entry twice")
equal({".", ".."} <= set(seen), True, "dots")

# Positions taken while reading lead back to the same entry, also after changes.
libc.rewinddir(D)
marks = []
for _ in range(40):
    p = libc.telldir(D)
    check(0 <= p < 1 << 63, "telldir is a positive loff_t")
    n = names(1)[0]
    names(rnd.randrange(200))
    marks.append((p, n))
for n in extra:
    os.unlink(f"{d}/{n}")
gone = {n for n in extra}
rnd.shuffle(marks)
for p, n in marks:
    libc.seekdir(D, p)
    if n not in gone:
        equal(names(1), [n], "the entry at a position")
libc.closedir(D)

# Listing while removing all of it, the way `rm -r` does.
left = set(os.listdir(d))
with os.scandir(d) as it:
    for e in it:
        os.unlink(e.path)
        left.discard(e.name)
equal((left, os.listdir(d)), (set(), []), "rm -r")
os.rmdir(d)
PY
proved "20,000 entries: each exactly once, also while others come and go; telldir/seekdir positions stay good; removal while listing"
