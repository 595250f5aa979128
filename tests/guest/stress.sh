# Six processes mix all calls that remove blocks with faults, writes, forks and pages held by strangers; rounds end with a remount and a check.
# timeout: 600
# STRESS_MINUTES (default 3) says how long, SEED repeats a run's choices (not its schedule). The program and its rules: src/stress/.
. "$(dirname "$0")/lib.sh"
MINUTES=${STRESS_MINUTES:-3}
SEED=${SEED:-$((RANDOM * 32768 + RANDOM))}
echo "seed $SEED (SEED=$SEED repeats it)"
[ "$FSTYPE" = ochre ] || make_fs "$DEV"

# Holders want a device that takes its time: 30 ms to read, 10 ms to write.
trap 'umount "$MNT" 2>/dev/null || true; dmsetup remove --retry slow 2>/dev/null || true; rmmod brd 2>/dev/null || true' EXIT
modprobe brd rd_nr=1 rd_size=16384
modprobe dm-delay 2>/dev/null || true
dmsetup create slow --table "0 32768 delay /dev/ram0 0 30 /dev/ram0 0 10"

check=()
[ "$FSTYPE" != ochre ] || check=(--fsck)
stress --seconds=$((MINUTES * 60)) --round=$((30 * (SLOW > 1 ? 3 : 1))) --seed="$SEED" --fstype="$FSTYPE" \
    --options="dax=always${LAYOUT:+,layout=$LAYOUT}" --slow=/dev/mapper/slow --patience=$((120 * SLOW)) "${check[@]}" \
    ${STRESS_OPTIONS:-} "$DEV" "$MNT" | tee /tmp/stress.log
proved "$(grep '^stress:' /tmp/stress.log | cut -c9-)"
