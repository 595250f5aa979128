# Sourced by the tests that boot machines of their own. They run on the host; what runs in the guest is written to $work/*.sh.
# shellcheck shell=bash

set -euo pipefail
TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
name=$(basename "$0" .sh)
work=$TOP/build/test/boot-$name
rm -rf "$work"
mkdir -p "$work/share"
cp "$TOP/tests/guest/src/ochretest.py" "$TOP/tests/demo/storm.py" "$work/share/"

proved() { echo "proved: $*"; }
fail() { echo "FAILED: $*"; exit 1; }

# guest NAME: makes a script for the guest out of stdin, with the helpers of the guest tests in reach.
guest() {
    {
        echo '#!/bin/bash'
        echo 'set -euo pipefail; export PYTHONPATH=/share PYTHONDONTWRITEBYTECODE=1 MNT=/mnt FSTYPE=ochre'
        cat
    } >"$work/$1.sh"
}

# boot RUN NAME [ARG...]: runs that script in a machine of its own, which keeps its files in $work/RUN.
boot() {
    local run=$work/$1 script=$work/$2.sh
    shift 2
    RUNDIR=$run OUT=$run/result SHARE=$work/share "$TOP/qemu/run" "$script" "$@"
}
