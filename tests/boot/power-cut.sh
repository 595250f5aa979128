# Power cuts in storms of metadata calls: what had returned is there, with its content; mount is quick; fsck clean. SEED= repeats.
# timeout: 400
. "$(dirname "$0")/lib.sh"
SEED=${SEED:-$((RANDOM * 32768 + RANDOM))}
echo "seed $SEED"
RANDOM=$((SEED % 32768))
before='' total=0
for round in 1 2 3 4 last; do
    run=$work/cut-$round
    ms=$((200 + RANDOM % 5000))
    # Both processors, and every second time only one.
    PMEM=512M PMEM_DIR=$work/pmem KILL_OK=1 SMP=$((1 + RANDOM % 2)) RUNDIR=$run OUT=$run/result SHARE=$work/share \
        "$TOP/qemu/run" "$TOP/tests/demo/power-cut.sh" $round "$SEED" $before &
    vm=$!
    if [ $round != last ]; then
        until [ -s "$run/out/storm.log" ]; do
            kill -0 $vm 2>/dev/null || { wait $vm || fail "round $round: exit status $?"; fail "round $round ended"; }
            sleep 0.1
        done
        sleep "$((ms / 1000)).$(printf %03d $((ms % 1000)))"
        kill -9 "$(cat "$run/qemu.pid")"
        cp "$run/out/storm.log" "$work/share/storm.log"
        total=$((total + $(grep -c '^<' "$work/share/storm.log")))
    fi
    rc=0
    wait $vm || rc=$?
    [ $rc = $([ $round = last ] && echo 0 || echo 137) ] || fail "round $round: exit status $rc"
    before=$round
done
rm -rf "$work/pmem"
proved "four power cuts, $total calls had returned: all of their files there with their content, fsck clean"
