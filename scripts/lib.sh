# Sourced by every script here: where things are cached, how long steps are shown, how the build root is entered.
# shellcheck shell=bash

set -euo pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
CACHE=${OCHRE_CACHE:-${HOME:-/root}/.cache/ochre}
BUILD=$TOP/build
KVER=${KVER:-7.2}

say() { printf '%s\n' "$*" >&2; }
die() { printf 'ochre: %s\n' "$*" >&2; exit 1; }

# The folder of the kernel that KVER names (7.2, 7.3, or debug), made first if need be.
kernel_folder() {
    if [ "$KVER" = debug ]; then "$TOP/scripts/env-debug-kernel"; else "$TOP/scripts/env-kernel"; fi
}

need_root() {
    [ "$(id -u)" = 0 ] || die "this needs root (it makes a chroot and mounts in a private namespace): run it as root or with sudo -E"
}

# key FILE|STRING... : a short hash that names a cache entry by what it was made from.
key() {
    local x
    for x; do if [ -f "$x" ]; then cat "$x"; else printf '%s\n' "$x"; fi; done | sha256sum | cut -c1-12
}

# step LABEL COMMAND... : runs a long command with its output in a log, shows that it is alive every 15 s,
# says how long it took, and shows the end of the log if it fails.
step() {
    local label=$1 log start pid rc=0 shown=0 now
    shift
    log=$(mktemp "${TMPDIR:-/tmp}/ochre-step.XXXXXX")
    start=$SECONDS
    say "== $label"
    "$@" >"$log" 2>&1 </dev/null &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.5
        now=$((SECONDS - start))
        if [ $((now / 15)) -gt "$shown" ]; then
            shown=$((now / 15))
            say "   ${now}s  $(tail -n 1 "$log" | tr -d '\r' | cut -c1-100)"
        fi
    done
    wait "$pid" || rc=$?
    if [ "$rc" != 0 ]; then
        say "-- end of the log of: $label"
        tail -n 40 "$log" >&2
        rm -f "$log"
        die "failed: $label (exit $rc)"
    fi
    rm -f "$log"
    say "   done in $((SECONDS - start))s"
}

# once ENTRY FUNCTION : makes the cache entry $CACHE/ENTRY unless it is there. FUNCTION gets a temporary path to fill;
# it is renamed when complete, so a killed run leaves no half entry. Several runs may come here at once: one makes it.
once() {
    local entry=$CACHE/$1 make=$2 lock
    [ -e "$entry" ] && return 0
    mkdir -p "$(dirname "$entry")"
    exec {lock}>"$entry.lock"
    flock -n "$lock" || { say "waiting for another run that is making $entry"; flock "$lock"; }
    if [ ! -e "$entry" ]; then
        rm -rf "$entry.part"
        "$make" "$entry.part"
        mv "$entry.part" "$entry"
    fi
    exec {lock}>&-
}

# host_packages COMMAND=PACKAGE... : installs with apt what the host lacks.
host_packages() {
    local pair missing=()
    for pair; do
        command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} = 0 ] && return 0
    command -v apt-get >/dev/null || die "please install: ${missing[*]} (this host has no apt-get)"
    need_root
    step "installing ${missing[*]} on this host" sh -c \
        'apt-get update; DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"' sh "${missing[@]}"
}
