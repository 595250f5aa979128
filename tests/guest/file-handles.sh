# File handles, as NFS uses them: open by handle after a remount; ESTALE after removal, also when the inode number is in use again.
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
def again():
    raise_errno(libc.umount2(MNT.encode(), 0))
    mount_new("/dev/pmem0", MNT, "dax=always")
os.makedirs(path("d/e"))
handles = {}
for i in range(200):
    open(path(f"d/f{i}"), "w").write(f"content {i}")
    handles[i] = name_to_handle(path(f"d/f{i}"))
hdir = name_to_handle(path("d/e"))
again()
at = os.open(MNT, os.O_RDONLY)
for i in range(0, 200, 7):
    fd = open_handle(at, handles[i])
    equal(os.read(fd, 100), f"content {i}".encode(), "content by handle after a remount")
    os.close(fd)
fd = open_handle(at, hdir)
equal(os.readlink(f"/proc/self/fd/{fd}"), path("d/e"), "a directory by handle finds its path")
os.close(fd)
inos = {os.stat(path(f"d/f{i}")).st_ino for i in range(200)}
for i in range(200):
    os.unlink(path(f"d/f{i}"))
for i in range(200):
    refused("ESTALE", lambda: open_handle(at, handles[i]), "handle of a removed file")
reused = 0
for i in range(400):
    open(path(f"d/g{i}"), "w").write("another")
    reused += os.stat(path(f"d/g{i}")).st_ino in inos
for i in range(200):
    refused("ESTALE", lambda: open_handle(at, handles[i]), "old handle of a reused inode number")
os.close(at)
again()
at = os.open(MNT, os.O_RDONLY)
rnd = seed()
for i in range(300):
    h = FileHandle(handles[0].handle_bytes, handles[0].handle_type)
    ctypes.memmove(h.data, rnd.randbytes(h.handle_bytes) if i % 3 else bytes(handles[0].data)[:4] + rnd.randbytes(h.handle_bytes - 4), h.handle_bytes)
    got = errno_name(lambda: os.close(open_handle(at, h)))
    equal(got, "ESTALE", "a made-up handle")
print(f"{reused} inode numbers were used again")
check(reused or FSTYPE != "ochre", "the test never met a reused inode number")
os.close(at)
PY
mount -o remount,ro "$MNT" && mount -o remount,rw "$MNT" || fail "a bad handle turned the filesystem read-only"
proved "handles survive a remount; ESTALE for removed files, reused numbers (generation) and 300 made-up handles"
