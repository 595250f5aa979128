# A read-only mount shows everything and refuses every change with EROFS, also through mmap.
. "$(dirname "$0")/lib.sh"
mount_fs
echo kept >"$MNT/file"
mkdir "$MNT/dir"
unmount_fs
mount_fs "$DEV" "$MNT" ro
python3 - <<'PY'
from ochretest import *
f = path("file")
equal(open(f).read(), "kept\n", "content")
for text, call in {
    "create": lambda: os.close(os.open(path("new"), os.O_CREAT | os.O_WRONLY)),
    "open for writing": lambda: os.open(f, os.O_RDWR),
    "mkdir": lambda: os.mkdir(path("d2")),
    "rmdir": lambda: os.rmdir(path("dir")),
    "unlink": lambda: os.unlink(f),
    "rename": lambda: os.rename(f, path("x")),
    "link": lambda: os.link(f, path("x")),
    "symlink": lambda: os.symlink("a", path("x")),
    "mknod": lambda: os.mkfifo(path("x")),
    "truncate": lambda: os.truncate(f, 0),
    "chmod": lambda: os.chmod(f, 0o600),
    "chown": lambda: os.chown(f, 1, 1),
    "utime": lambda: os.utime(f, (1, 1)),
}.items():
    refused("EROFS", call, text)
with open(f, "rb") as fd, Map(fd.fileno(), PAGE, MAP_SHARED, PROT_READ) as m:
    equal(m.read(0, 5), b"kept\n", "mapped")
PY
unmount_fs
mount_fs
[ "$(ls "$MNT" | grep -v lost+found | tr '\n' ' ')" = "dir file " ] || fail "the read-only mount changed something: $(ls "$MNT")"
proved "on a ro mount reads and maps work, and 13 kinds of change give EROFS and change nothing"
