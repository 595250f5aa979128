# Directories: link counts, '..', not-empty, deep nesting, rmdir of an open one.
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
base = os.stat(MNT).st_nlink
os.mkdir(path("d"), 0o751)
equal(oct(os.stat(path("d")).st_mode), oct(0o40751), "mode")
equal(os.stat(path("d")).st_nlink, 2, "links of an empty directory")
equal(os.stat(MNT).st_nlink, base + 1, "links of the parent")
equal(os.stat(path("d/..")).st_ino, os.stat(MNT).st_ino, "..")
refused("EEXIST", lambda: os.mkdir(path("d")), "mkdir twice")
os.mkdir(path("d/e"))
refused("ENOTEMPTY", lambda: os.rmdir(path("d")), "rmdir of a full one")
refused("EISDIR", lambda: os.unlink(path("d")), "unlink of a directory")
open(path("f"), "w").close()
refused("ENOTDIR", lambda: os.rmdir(path("f")), "rmdir of a file")
refused("EISDIR", lambda: os.open(path("d"), os.O_RDWR), "writing a directory")
os.rmdir(path("d/e"))
fd = os.open(path("d"), os.O_RDONLY)
os.rmdir(path("d"))
equal(os.fstat(fd).st_nlink, 0, "links of a removed directory")
equal(os.listdir(fd), [], "listing a removed directory")
refused("ENOENT", lambda: os.open("x", os.O_CREAT, dir_fd=fd), "create in a removed directory")
os.close(fd)
equal(os.stat(MNT).st_nlink, base, "links after all")
at = MNT
for i in range(200):
    at += f"/level{i}"
    os.mkdir(at)
equal(len(list(os.walk(path("level0")))), 200, "a walk 200 deep")
os.chdir(at)
for i in range(100):
    os.chdir("..")
equal(os.getcwd(), "/".join(at.split("/")[:-100]), "getcwd after 100 ..")
os.chdir("/")
# setgid directories hand their group down
os.mkdir(path("g"))
os.chown(path("g"), 0, 77)
os.chmod(path("g"), 0o2775)
os.mkdir(path("g/sub"))
open(path("g/file"), "w").close()
equal((os.stat(path("g/sub")).st_gid, bool(os.stat(path("g/sub")).st_mode & 0o2000), os.stat(path("g/file")).st_gid), (77, True, 77), "setgid")
PY
proved "mkdir/rmdir with exact link counts and errors, 200 levels, '..' and getcwd, removed open directories, setgid"
