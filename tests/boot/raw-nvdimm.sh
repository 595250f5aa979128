# NVDIMMs that nobody has configured are in raw mode: the mount says what to do, and doing it makes them usable.
. "$(dirname "$0")/lib.sh"
guest use <<'SH'
if mount -t ochre -o dax /dev/pmem0 /mnt 2>/dev/null; then echo "FAILED: mounted a raw namespace"; exit 1; fi
line=$(dmesg | grep -i 'ochre.*ndctl create-namespace') || { echo "FAILED: no log line with the cure"; exit 1; }
echo "$line"
ndctl create-namespace -f -e namespace0.0 -m fsdax -M mem -a 2M >/dev/null
for _ in $(seq 50); do [ -b /dev/pmem0 ] && break; sleep 0.1; done
mkfs.ochre -f /dev/pmem0 | tail -n 1
mount -t ochre -o dax /dev/pmem0 /mnt
echo hello >/mnt/f
umount /mnt
fsck.ochre /dev/pmem0 | tail -n 1
SH
RAW=1 PMEM=512M boot one use || fail "exit status $?"
proved "an untouched NVDIMM is refused with the ndctl command in the log; after that command it carries a filesystem"
