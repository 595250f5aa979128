# Hard links: one inode under many names, counts, directories refused.
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
os.mkdir(path("d"))
open(path("f"), "w").write("one")
ino = os.stat(path("f")).st_ino
for i in range(1000):
    os.link(path("f"), path(f"d/l{i}"))
equal(os.stat(path("f")).st_nlink, 1001, "links")
equal(os.stat(path("d/l999")).st_ino, ino, "inode number")
open(path("d/l500"), "w").write("two")
equal(open(path("f")).read(), "two", "through another name")
refused("EEXIST", lambda: os.link(path("f"), path("d/l1")), "existing name")
refused("EPERM", lambda: os.link(path("d"), path("d2")), "directory")
os.unlink(path("f"))
for i in range(999):
    os.unlink(path(f"d/l{i}"))
equal((os.stat(path("d/l999")).st_nlink, open(path("d/l999")).read()), (1, "two"), "the last name")
s = os.symlink("nowhere", path("s"))
os.link(path("s"), path("s2"), follow_symlinks=False)
equal((os.readlink(path("s2")), os.lstat(path("s2")).st_nlink), ("nowhere", 2), "link to a symlink")
fd = os.open(path("d/l999"), os.O_RDONLY)
os.unlink(path("d/l999"))
refused("ENOENT", lambda: link_open_file(fd, path("back")), "link of an unlinked file")
PY
proved "1000 names of one inode, counted; EEXIST, EPERM for directories, no way back from zero links"
