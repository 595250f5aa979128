# The rename matrix: files and directories, onto nothing, onto files, onto empty and full directories; NOREPLACE and EXCHANGE.
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
import shutil

def fresh():
    for n in os.listdir(MNT):
        if n != "lost+found":
            p = path(n)
            shutil.rmtree(p) if os.path.isdir(p) and not os.path.islink(p) else os.unlink(p)
    os.mkdir(path("A"))
    os.mkdir(path("B"))
    open(path("A/file"), "w").write("a-file")
    os.mkdir(path("A/empty"))
    os.mkdir(path("A/full"))
    open(path("A/full/x"), "w").write("x")
    open(path("B/file"), "w").write("b-file")
    os.mkdir(path("B/empty"))
    os.mkdir(path("B/full"))
    open(path("B/full/y"), "w").write("y")

# (source, target) -> result without flags; NOREPLACE is EEXIST wherever the target exists
matrix = {("file", "none"): "OK", ("file", "file"): "OK", ("file", "empty"): "EISDIR", ("file", "full"): "EISDIR",
          ("empty", "none"): "OK", ("empty", "file"): "ENOTDIR", ("empty", "empty"): "OK", ("empty", "full"): "ENOTEMPTY",
          ("full", "none"): "OK", ("full", "file"): "ENOTDIR", ("full", "empty"): "OK", ("full", "full"): "ENOTEMPTY"}
for (s, t), want in matrix.items():
    for flags in (0, RENAME_NOREPLACE):
        if flags and want != "OK":
            want = "EEXIST" if t != "none" else want
        if flags and t != "none":
            want = "EEXIST"
        fresh()
        src, dst = path(f"A/{s}"), path(f"B/{t}")
        before = os.stat(src).st_ino
        got = errno_name(lambda: renameat2(src, dst, flags))
        equal(got, want, f"rename {s} over {t}, flags {flags}")
        if got == "OK":
            equal((os.path.exists(src), os.stat(dst).st_ino), (False, before), f"{s} over {t}: names")
            if s == "full":
                equal(open(dst + "/x").read(), "x", "moved directory")
            if s != "file":
                equal(os.stat(dst + "/..").st_ino, os.stat(path("B")).st_ino, ".. of a moved directory")
        else:
            equal(os.stat(src).st_ino, before, "source after a refused rename")
        for d in ("A", "B"):
            sub = sum(os.path.isdir(path(f"{d}/{n}")) for n in os.listdir(path(d)))
            equal(os.stat(path(d)).st_nlink, 2 + sub, f"links of {d} after {s} over {t}")

fresh()
refused("EINVAL", lambda: os.rename(path("A"), path("A/full/A")), "a directory into itself")
refused("ENOENT", lambda: os.rename(path("A/none"), path("B/z")), "missing source")
refused("EINVAL", lambda: renameat2(path("A/file"), path("B/z"), RENAME_NOREPLACE | RENAME_EXCHANGE), "contradicting flags")
# same inode under two names: nothing happens
os.link(path("A/file"), path("B/same"))
os.rename(path("A/file"), path("B/same"))
equal((os.path.exists(path("A/file")), os.path.exists(path("B/same"))), (True, True), "two names of one file")
# in the same directory, with a longer name, and onto an open file
f = os.open(path("B/file"), os.O_RDONLY)
os.rename(path("A/file"), path("B/file"))
equal((os.read(f, 10), os.fstat(f).st_nlink), (b"b-file", 0), "the replaced file lives while open")
os.rename(path("B/file"), path("B/" + "n" * 255))
equal(open(path("B/" + "n" * 255)).read(), "a-file", "long name")
got = errno_name(lambda: renameat2(path("A/full"), path("B/empty"), RENAME_EXCHANGE))
if got == "OK":
    equal((os.listdir(path("A/full")), os.listdir(path("B/empty"))), ([], ["x"]), "exchange")
else:
    equal(got, "EINVAL", "exchange where it is not supported")
# ctime of the moved inode moves on, its mtime stays
os.utime(path("A/empty"), ns=(10**18, 10**18))
c = os.stat(path("A/empty")).st_ctime_ns
os.rename(path("A/empty"), path("A/other"))
st = os.stat(path("A/other"))
check(st.st_mtime_ns == 10**18 and st.st_ctime_ns >= c, "times over rename")
PY
remount_fs
[ -d "$MNT/A/other" ] || fail "not durable"
proved "rename: 12 pairs of source and target, each plain and NOREPLACE, with link counts, '..', errors, open targets"
