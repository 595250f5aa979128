# write(2) from a buffer that is a mapping of the same file, or of another file that is written from this one: no deadlock, no lock-order report.
# timeout: 180
# The order at stake: i_rwsem, then (copying the buffer) mmap_lock, invalidate_lock, the file's core lock, of both files at once in
# both directions; beside it truncate, punch, unlink, rename-over, evict, freeze, attempts to remount read-only, remounts.
. "$(dirname "$0")/lib.sh"
SEED=${SEED:-$((RANDOM * 32768 + RANDOM))}
echo "seed $SEED (SEED=$SEED repeats it)"
[ "$FSTYPE" = ochre ] || make_fs "$DEV"
stress --seconds=20 --round=10 --seed="$SEED" --fstype="$FSTYPE" --options="dax=always${LAYOUT:+,layout=$LAYOUT}" --patience=$((120 * SLOW)) \
    --only=write-crosswise,write,map-write,map-read,truncate,punch,create,unlink,rename "$DEV" "$MNT" | tee /tmp/stress.log
proved "writes whose buffers are mapped from the same file, or crosswise from another, beside all removing calls: $(grep '^stress:' /tmp/stress.log | cut -c9-)"
