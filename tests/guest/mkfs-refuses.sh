# mkfs.ochre does not overwrite another filesystem, or its own, or a mounted one, without -f; and says what it found.
# only: ochre
# no-mkfs
. "$(dirname "$0")/lib.sh"
no_fsck
says() { # PATTERN COMMAND...
    local want=$1 rc=0
    shift
    "$@" >/tmp/log 2>&1 || rc=$?
    [ $rc != 0 ] || fail "'$*' succeeded"
    grep -Eqi -- "$want" /tmp/log || fail "'$*' did not say /$want/: $(cat /tmp/log)"
}
mkfs.ext4 -q -F "$DEV"
says ext4 mkfs.ochre "$DEV"
mount -t ext4 "$DEV" "$MNT" 2>/dev/null && umount "$MNT"
mkfs.xfs -q -f "$DEV"
says xfs mkfs.ochre "$DEV"
mkfs.ochre -f "$DEV" >/dev/null
says ochre mkfs.ochre "$DEV"
mount_fs
echo x >"$MNT/x"
says 'mounted|busy|in use' mkfs.ochre -f "$DEV"
[ "$(cat "$MNT/x")" = x ] || fail "mkfs on a mounted device changed it"
unmount_fs
truncate -s 1M /tmp/tiny
says 'small|few|at least' mkfs.ochre /tmp/tiny
says 'does not exist' mkfs.ochre /tmp/nothing
proved "mkfs.ochre names the ext4, XFS or Ochre that it found, refuses mounted and too small targets"
