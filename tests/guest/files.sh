# Regular files: create, O_EXCL, open modes, write, read, size, unlink; an unlinked open file lives on.
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
f = os.open(path("f"), os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o640)
st = os.fstat(f)
equal((st.st_mode, st.st_nlink, st.st_size, st.st_uid), (0o100640, 1, 0, 0), "a new file")
refused("EEXIST", lambda: os.open(path("f"), os.O_CREAT | os.O_EXCL), "O_EXCL")
refused("ENOENT", lambda: os.open(path("g"), os.O_RDWR), "missing")
refused("ENOTDIR", lambda: os.open(path("f/x"), os.O_RDWR | os.O_CREAT), "below a file")
refused("ENAMETOOLONG", lambda: os.open(path("n" * 256), os.O_CREAT), "name of 256")
long = path("n" * 255)
os.close(os.open(long, os.O_CREAT))
check("n" * 255 in os.listdir(MNT), "name of 255")
data = pattern(1000003)
equal(os.write(f, data), len(data), "write")
equal(os.pread(f, 1 << 20, 0), data, "read back")
equal(os.pread(f, 100, len(data)), b"", "read at the end")
os.pwrite(f, b"xyz", 12345)
equal(os.pread(f, 9, 12342), data[12342:12345] + b"xyz" + data[12348:12351], "overwrite")
os.unlink(path("f"))
equal(os.fstat(f).st_nlink, 0, "links of an unlinked file")
equal(os.pread(f, 3, 12345), b"xyz", "unlinked but open")
os.pwrite(f, b"more", len(data))
free = os.statvfs(MNT).f_bfree
os.close(f)
check(os.statvfs(MNT).f_bfree >= free + 200, "the blocks of an unlinked file come back at last close")
names = [bytes([1 + i % 255, 33 + i % 90, 200 + i % 55]).replace(b"/", b"_") + str(i).encode() for i in range(500)]
for n in names:
    os.close(os.open(MNT.encode() + b"/" + n, os.O_CREAT))
check(set(names) <= set(os.listdir(MNT.encode())), "names of any bytes")
PY
proved "create, O_EXCL, 255-byte and arbitrary-byte names, write/read/overwrite, unlinked files live until closed and give their blocks back"
