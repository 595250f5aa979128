# Damaged filesystems with right checksums under an ordinary workload: errors are EUCLEAN or EIO, then it is read-only; no oops, no hang.
# only: ochre
# timeout: 1200
# no-mkfs
# As many of the pack's images as 40 s allow; `make fuzz-guest` says bad_images=N on the kernel's command line and takes that many.
. "$(dirname "$0")/lib.sh"
no_fsck
pack=$(dirname "$(command -v mkfs.ochre)")/bad-images.pack
[ -e "$pack" ] || skip "no $pack: scripts/build-tools makes it"
modprobe dm-mod
trap 'umount "$MNT" 2>/dev/null || true; dmsetup remove_all >/dev/null 2>&1 || true' EXIT
# A device as large as the filesystem, so that the superblock's copy is where it belongs.
dmsetup create bad --table "0 $((24 * 2048)) linear $DEV 0"
count=$(sed -nE 's/.*\bbad_images=([0-9]+).*/\1/p' /proc/cmdline)
python3 src/badimages.py "$pack" /dev/mapper/bad "${count:-0}" || fail "see above"
