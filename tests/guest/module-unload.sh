# rmmod: refused while mounted, done after unmount; the module comes back and mounts the same filesystem.
# only: ochre
. "$(dirname "$0")/lib.sh"
mount_fs
echo x >"$MNT/x"
if rmmod ochre 2>/dev/null; then fail "rmmod worked under a mount"; fi
for _ in 1 2 3; do
    unmount_fs
    rmmod ochre
    grep -q ochre /proc/filesystems && fail "still registered"
    insmod "$OCHRE_KO"
    mount_fs
    [ "$(cat "$MNT/x")" = x ] || fail "content"
done
proved "rmmod is refused while mounted; three rounds of unmount, rmmod, insmod, mount"
