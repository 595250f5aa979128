# chmod, chown, utimens (nanoseconds, UTIME_OMIT), statx birth time, chattr; all of it over a remount. Clearing of set-id bits.
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
import stat, time
before = time.time_ns()
f = path("f")
open(f, "w").write("x")
os.mkdir(path("d"))
mask, attributes, btime = statx(f)
check(mask & 0x800, "STATX_BTIME")
check(before - 10**9 <= btime <= time.time_ns(), "birth time is now")
check(attributes & 0x200000, "STATX_ATTR_DAX")
os.chmod(f, 0o4751)
os.chown(f, 1234567, 4000000000)
os.chmod(f, 0o4751)
os.utime(f, ns=(123456789_987654321, 2_000_000_000_000000001))
old = os.stat(f).st_ctime_ns
os.utime(path("d"), ns=(-5_000000001, 1))
libc.umount2(MNT.encode(), 0)
mount_new("/dev/pmem0", MNT, "dax=always")
st = os.stat(f)
equal((oct(st.st_mode), st.st_uid, st.st_gid), (oct(0o104751), 1234567, 4000000000), "mode and owner")
equal((st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns), (123456789_987654321, 2_000_000_000_000000001, old), "times")
equal(os.stat(path("d")).st_atime_ns, -5_000000001, "a time before 1970") if FSTYPE == "ochre" else None
equal(statx(f)[2], btime, "birth time after remount")
# writing takes set-id bits away (as a user), changes mtime and ctime
os.chown(f, 1000, 1000)
os.chmod(f, 0o6777)
def user():
    os.setgid(1000)
    os.setuid(1000)
    fd = os.open(f, os.O_WRONLY)
    os.write(fd, b"y")
    check(not os.fstat(fd).st_mode & 0o6000, "set-id bits after a user's write")
    refused("EPERM", lambda: os.chown(f, 0, 0), "a user's chown")
    refused("EACCES", lambda: os.mkdir(path("d/x")), "a user's mkdir in root's directory")
    refused("EPERM", lambda: os.chmod(path("d"), 0o777), "chmod of another's")
reap(spawn(user), "as a user")
st2 = os.stat(f)
check(st2.st_mtime_ns > before and st2.st_ctime_ns >= st2.st_mtime_ns - 10**9, "mtime after a write")
m = os.stat(path("d")).st_mtime_ns
open(path("d/new"), "w").close()
check(os.stat(path("d")).st_mtime_ns > m, "a directory's mtime")
PY
# chattr: what the VFS enforces, what statx says, what is refused, and that it stays.
if [ "$FSTYPE" = ochre ]; then
    echo one >$MNT/i; echo one >$MNT/a; mkdir $MNT/di
    refused EPERM setpriv --reuid 1000 --regid 1000 --clear-groups --inh-caps=-all --bounding-set=-all chattr +i $MNT/i
    c=$(stat -c %z $MNT/i)
    chattr +i $MNT/i; chattr +a $MNT/a; chattr +dA $MNT/f; chattr +i $MNT/di
    [ "$(stat -c %z $MNT/i)" != "$c" ] || fail "chattr changes no ctime"
    refused EOPNOTSUPP chattr +c $MNT/f
    refused EOPNOTSUPP chattr -p 5 $MNT/f
    for round in "at once" "after a remount"; do
        flags=$(cd $MNT; for f in i a f di; do lsattr -d $f; done | awk '{ gsub("-", "", $1); print $2 "=" $1 }' | tr '\n' ' ')
        [ "$flags" = "i=i a=a f=dA di=i " ] || fail "flags $round: $flags"
        refused EPERM touch $MNT/i
        refused EPERM rm $MNT/i
        refused EPERM truncate -s 0 $MNT/a
        refused EPERM touch $MNT/di/x
        echo more >>$MNT/a
        remount_fs
    done
    [ "$(wc -l <$MNT/a)" = 3 ] || fail "append-only"
    chattr -i $MNT/i $MNT/di; chattr -a $MNT/a; chattr -dA $MNT/f
    rm $MNT/i $MNT/a; touch $MNT/di/x
fi
proved "mode, owners beyond 16 bits, nanosecond times, birth time, flags over a remount; users lose set-id bits and are refused"
