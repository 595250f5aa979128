#!/bin/bash
# One boot of the power-cut rounds, in the guest: power-cut.sh ROUND SEED. Checks what the cut before left (ROUND > 1: the storm of
# ROUND - 1, whose log is /share/storm.log), then starts the storm of this round, unless it is the last check (ROUND=last).
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1
round=$1 seed=$2 before=${3:-}
trap 'echo "!! failed at line $LINENO: $BASH_COMMAND"; dmesg | grep -i ochre | tail -n 15' ERR
[ -n "$before" ] || mkfs.ochre -f /dev/pmem0 >/dev/null
# The first mount of a boot pays for loading and emulating code once; the other device takes that.
mkfs.ochre -f /dev/pmem1 >/dev/null
mount -t ochre -o dax /dev/pmem1 /mnt
umount /mnt
took=$(python3 - <<'PY'
import ctypes, os, time
libc = ctypes.CDLL(None, use_errno=True)
t = time.monotonic()
if libc.mount(b"/dev/pmem0", b"/mnt", b"ochre", 0, b"dax"):
    raise SystemExit(os.strerror(ctypes.get_errno()))
print(f"{time.monotonic() - t:.3f}")
PY
)
if [ -n "$before" ]; then
    dmesg | grep -i 'ochre.*recover' | tail -n 1 | sed 's/^\[[^]]*\] */   /' || true
    verify() { python3 /script/storm.py verify "/mnt/storm$before" /share/storm.log "$seed.$before"; }
    told=$(verify) || { echo "!! $told"; exit 1; }
    read -r calls files cut <<<"$told"
    umount /mnt
    fsck.ochre /dev/pmem0 >/tmp/fsck.log || { cat /tmp/fsck.log; exit 1; }
    mount -t ochre -o dax /dev/pmem0 /mnt
    verify >/dev/null
    echo "   mounted in $took s (recovery included); $calls calls had returned: all $files files there with their content; cut short: $cut; fsck clean"
    echo "power cut $before|mount with recovery $took s, $calls calls returned, $files files intact, fsck clean" >>/out/table
fi
if [ "$round" = last ]; then
    umount /mnt
    exit 0
fi
echo ready >/out/ready
exec python3 /script/storm.py storm "/mnt/storm$round" /out/storm.log "$seed.$round"
