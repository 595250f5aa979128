# Sourced by every guest test. The runner has made a fresh filesystem on $DEV (and on $DEV2 if the head says `# devices: 2`);
# the test mounts it. FSTYPE=ext4 tries a test on ext4-DAX, to tell a wrong test from a wrong filesystem.
# shellcheck shell=bash

set -euo pipefail

FSTYPE=${FSTYPE:-ochre}
DEV=/dev/pmem0
DEV2=/dev/pmem1
MNT=/mnt
MNT2=/mnt2
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export MNT MNT2 DEV DEV2 FSTYPE
export PYTHONPATH=$HERE/src PYTHONDONTWRITEBYTECODE=1
mkdir -p "$MNT" "$MNT2"

# What the test showed, in one line; the runner prints it beside PASS.
proved() { echo "proved: $*"; }
fail() { echo "FAILED: $*"; exit 1; }
skip() { echo "skipped: $*"; exit 77; }
# The runner's fsck afterwards makes no sense where the test leaves something else on the device.
no_fsck() { : >/run/no-fsck; }

make_fs() { # DEVICE [mkfs options]
    local dev=$1
    shift
    case $FSTYPE in
    ext4) mkfs.ext4 -q -F -E stride=512,stripe_width=512 "$@" "$dev" ;;
    xfs) mkfs.xfs -q -f -m reflink=0 -d su=2m,sw=1 "$@" "$dev" ;;
    *) mkfs.ochre -f "$@" "$dev" >/dev/null ;;
    esac
}

mount_fs() { # [device [mountpoint [options]]]
    local dev=${1:-$DEV} at=${2:-$MNT} options=${3:-}
    mount -t "$FSTYPE" -o "dax=always${options:+,$options}" "$dev" "$at"
}

unmount_fs() { umount "${1:-$MNT}"; }
remount_fs() { unmount_fs; mount_fs; }

check_fs() {
    case $FSTYPE in
    ext4) e2fsck -fn "${1:-$DEV}" >/dev/null 2>&1 ;;
    xfs) xfs_repair -n "${1:-$DEV}" >/dev/null 2>&1 ;;
    *) fsck.ochre "${1:-$DEV}" >/tmp/fsck.log 2>&1 || { cat /tmp/fsck.log; return 1; } ;;
    esac
}

# refused ERRNO COMMAND...: the command must fail, and its system call with this errno (a name; the C library's message is looked for).
refused() {
    local want=$1 text out rc=0
    shift
    text=$(python3 -c 'import errno, os, sys; print(os.strerror(getattr(errno, sys.argv[1])))' "$want")
    out=$(LC_ALL=C "$@" 2>&1) || rc=$?
    [ "$rc" != 0 ] || fail "'$*' succeeded, wanted $want"
    case $out in *"$text"*) ;; *) fail "'$*' wanted $want ($text), said: $out" ;; esac
}

# mount_refused ERRNO PATTERN DEVICE [options] [type]: mount(2) fails so, and leaves exactly one kernel log line, which matches the pattern.
mount_refused() {
    local want=$1 pattern=$2 dev=$3 options=${4-dax=always} log
    log_mark
    python3 - "$want" "$dev" "$MNT" "$options" <<'PY'
import sys
from ochretest import *
want, dev, at, options = sys.argv[1:]
got = errno_name(lambda: mount_new(dev, at, options))
if got != want:
    sys.exit(f"FAILED: mounting {dev} with '{options}' gave {got}, wanted {want}")
PY
    log=$(log_since | grep -i ochre || true)
    [ "$(grep -c . <<<"$log")" = 1 ] || fail "wanted exactly one kernel log line about $dev ($options), got: $log"
    grep -Eqi -- "$pattern" <<<"$log" || fail "the log line about $dev does not say /$pattern/: $log"
}

log_mark() { echo "ochre-test-mark-${MARK:=0}" >/dev/kmsg; }
# The kernel log since the last mark.
log_since() { dmesg | awk '/ochre-test-mark-/ { n = NR; delete l; next } { l[NR] = $0 } END { for (i = n + 1; i <= NR; i++) print l[i] }'; }
# logged_once PATTERN: since the mark, exactly one line of ours, and it matches.
logged_once() {
    local log
    log=$(log_since | grep -i ochre || true)
    [ "$(grep -Ec -- . <<<"$log")" = 1 ] || fail "wanted exactly one kernel log line, got: $log"
    grep -Eqi -- "$1" <<<"$log" || fail "the kernel log line does not say /$1/: $log"
}
