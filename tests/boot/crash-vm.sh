# The module's own stores, write-backs and fences, recorded in a guest: every power cut that the x86 rules allow at them recovers.
# timeout: 400
. "$(dirname "$0")/lib.sh"
export SEED=${SEED:-$((RANDOM * 32768 + RANDOM))} RUN=$work/run
SIZE=${SIZE:-30} STATES=${STATES:-6} BETWEEN=${BETWEEN:-400} MOUNTS=${MOUNTS:-10} "$TOP/scripts/crash-vm" | tee "$work/log" || fail "SEED=$SEED: see above"
rm -rf "$RUN/pmem"
proved "$(grep -a '^crash-vm:' "$work/log" | sed 's/^crash-vm: //' | paste -sd';' | sed 's/;/; /')"
