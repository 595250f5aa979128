# The stress program says who hangs, and where: a worker that is stopped, and the process that freezes and remounts.
. "$(dirname "$0")/lib.sh"
hang() { # NUMBER: stops the stress's child with this number (a worker; the one after the workers freezes and remounts)
    local log=/tmp/stress-$1.log main child
    make_fs "$DEV"
    stress --seconds=$((600 * SLOW)) --round=$((600 * SLOW)) --workers=3 --seed=1 --fstype="$FSTYPE" --patience=$((3 * SLOW)) "$DEV" "$MNT" >"$log" 2>&1 &
    main=$!
    until [ "$(pgrep -c -P "$main" stress)" = 4 ]; do
        kill -0 "$main" || fail "it has ended: $(cat "$log")"
        sleep 0.1
    done
    child=$(pgrep -P "$main" stress | sed -n "$1p")
    kill -STOP "$child"
    if wait "$main"; then fail "the stress did not notice that child $1 hangs"; fi
    grep -Eq "FAILED: (worker|the one beside the workers) \(process $child\) makes no progress in '.+' for [0-9]+ s" "$log" || fail "who hangs? $(cat "$log")"
    grep -q -- "-- stress, process $child, task $child, state T" "$log" || fail "his stack: $(cat "$log")"
    [ "$(grep -c -- '-- stress, process' "$log")" -ge 4 ] || fail "the others' stacks: $(cat "$log")"
    grep -q -- '-- ochre' "$log" || [ "$FSTYPE" != ochre ] || fail "the filesystem's thread: $(cat "$log")"
    # It may have been killed while the filesystem was frozen, and be about to freeze it.
    while pgrep stress >/dev/null; do
        fsfreeze -u "$MNT" 2>/dev/null || true
        sleep 0.2
    done
    fsfreeze -u "$MNT" 2>/dev/null || true
    umount "$MNT"
}
hang 2
hang 4
proved "a stopped worker and a stopped freezer are named within the patience, with the kernel stacks of all"
