# Every call, with each allocation of memory that the kernel makes for it failing in turn: ENOMEM and nothing changed, or success.
# only: ochre
# timeout: 600
# The program and its rules: src/failnth/. CALLS=populate: only calls whose names contain that. On a kernel with failslab and fail_page_alloc, which is the debug kernel.
. "$(dirname "$0")/lib.sh"
mountpoint -q /sys/kernel/debug || mount -t debugfs none /sys/kernel/debug 2>/dev/null || true
[ -d /sys/kernel/debug/failslab ] && [ -d /sys/kernel/debug/fail_page_alloc ] || skip "no failslab in this kernel"
failnth "$DEV" "$MNT" | tee /tmp/failnth.log
proved "$(sed -n 's/^failnth: //p' /tmp/failnth.log): ENOMEM and nothing changed, or success; fsck clean after each"
