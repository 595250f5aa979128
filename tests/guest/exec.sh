# Programs and shared libraries run from the filesystem; a running one cannot be written (ETXTBSY).
. "$(dirname "$0")/lib.sh"
mount_fs
cp /bin/bash /bin/cat /usr/bin/python3 "$MNT/"
cp /lib/x86_64-linux-gnu/libm.so.6 "$MNT/"
[ "$("$MNT/bash" -c 'echo "$BASH"')" = "$MNT/bash" ] || fail "bash"
"$MNT/cat" "$MNT/cat" | cmp - /bin/cat
python3 - <<'PY'
from ochretest import *
import subprocess
m = ctypes.CDLL(path("libm.so.6"))
m.sqrt.restype = ctypes.c_double
m.sqrt.argtypes = [ctypes.c_double]
equal(m.sqrt(1764.0), 42.0, "a library from the filesystem")
p = subprocess.Popen([path("cat")], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
p.stdin.write(b"x\n"); p.stdin.flush(); p.stdout.readline()
refused("ETXTBSY", lambda: os.open(path("cat"), os.O_WRONLY), "writing a running program")
p.stdin.close(); p.wait()
os.close(os.open(path("cat"), os.O_WRONLY))
os.chmod(path("cat"), 0o644)
refused("EACCES", lambda: os.execv(path("cat"), ["cat"]), "exec without the x bit")
PY
"$MNT/python3" -c 'print("runs")' >/dev/null
umount "$MNT"
mount -t "$FSTYPE" -o dax=always,noexec "$DEV" "$MNT"
refused EACCES "$MNT/bash" -c true
proved "programs and a library run from the filesystem; ETXTBSY and noexec hold"
