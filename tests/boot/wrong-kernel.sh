# A module that was built for another kernel does not load, and says why.
. "$(dirname "$0")/lib.sh"
guest try <<'SH'
cp "$OCHRE_KO" /tmp/other.ko
# The version string, changed in place: what a module of another kernel has.
python3 - <<'PY'
data = open("/tmp/other.ko", "rb").read()
i = data.index(b"vermagic=") + 9
open("/tmp/other.ko", "wb").write(data[:i] + b"9" + data[i + 1:])
PY
if insmod /tmp/other.ko 2>/tmp/log; then echo "FAILED: it loaded"; exit 1; fi
grep -qi 'invalid module format\|Exec format' /tmp/log || { cat /tmp/log; exit 1; }
dmesg | grep -i 'ochre: version magic'
SH
PMEM=0 INSMOD=0 boot one try || fail "exit status $?"
proved "insmod refuses it with 'Invalid module format', the log shows both versions"
