# The module loads into the 7.3 kernel of backports as well, and does its work there.
# timeout: 900
. "$(dirname "$0")/lib.sh"
export KVER=7.3
"$TOP/scripts/env-kernel" >/dev/null || { echo "no 7.3 kernel could be prepared here"; exit 1; }
MODULE=$("$TOP/scripts/build-module")
export MODULE
guest use <<'SH'
uname -r
mkfs.ochre -f /dev/pmem0 >/dev/null
mount -t ochre -o dax /dev/pmem0 /mnt
cp -a /usr/bin/[a-m]* /mnt/
diff -r /mnt/bash /usr/bin/bash
python3 - <<'PY'
from ochretest import *
f = os.open(path("f"), os.O_RDWR | os.O_CREAT)
fallocate(f, 0, 0, 8 * MIB)
m = aligned_map(f, 8 * MIB, MAP_SHARED_VALIDATE | MAP_SYNC)
m.write(0, pattern(8 * MIB))
equal(huge_pages(m), 8 * MIB, "bytes on 2 MiB entries")
m.close()
held_pages(f)
PY
umount /mnt
fsck.ochre /dev/pmem0 | tail -n 1
rmmod ochre
SH
boot one use || fail "exit status $?"
proved "built for, loaded into and used on $(grep -aoE 'Linux version [^ ]+' "$work/one/console.log" "$work/one/result/dmesg" "$work/one/dmesg" 2>/dev/null | head -n 1 | sed 's/.*version //')"
