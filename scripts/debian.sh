# Making Debian trees. Sourced; names no mirror: mmdebstrap takes its default or what the host has configured.
# shellcheck shell=bash

# debian_tree PACKAGE-FILE TARGET : TARGET is a folder, or a file name that mmdebstrap knows the kind of.
debian_tree() {
    local list proxy args=() keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    list=$(sed 's/#.*//' "$1" | tr -s ' \n' ',' | sed 's/^,//; s/,$//')
    # A proxy that the host's apt uses is used inside too.
    while IFS= read -r proxy; do args+=(--aptopt="$proxy"); done \
        < <(apt-config dump 2>/dev/null | grep -E '^Acquire::https?::Proxy' || true)
    # Debian 12's keyring knows trixie's keys since it was updated; mmdebstrap says so clearly if a host's is older.
    [ -f "$keyring" ] && args+=(--keyring="$keyring")
    mmdebstrap --mode=root --variant=apt --format=directory --include="$list" \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --aptopt='APT::Install-Recommends "false"' \
        --aptopt='Acquire::Languages "none"' "${args[@]}" trixie "$2"
}

# add_backports ROOT : derives the backports suite from the trixie source that mmdebstrap wrote, in either of apt's formats.
add_backports() {
    local root=$1 f
    for f in "$root"/etc/apt/sources.list "$root"/etc/apt/sources.list.d/*.list; do
        [ -f "$f" ] || continue
        sed -nE 's/^(deb( \[[^]]*\])? [^ ]+) trixie ([a-z].*)/\1 trixie-backports main/p' "$f" | head -n 1
    done | head -n 1 >"$root/etc/apt/sources.list.d/backports.list"
    [ -s "$root/etc/apt/sources.list.d/backports.list" ] && return 0
    rm "$root/etc/apt/sources.list.d/backports.list"
    for f in "$root"/etc/apt/sources.list.d/*.sources; do
        grep -qE '^Suites:.*\btrixie( |$)' "$f" || continue
        sed -E 's/^Suites:.*/Suites: trixie-backports/; s/^Components:.*/Components: main/' "$f" \
            >"$root/etc/apt/sources.list.d/backports.sources"
        return 0
    done
    die "no trixie line in $root/etc/apt to derive trixie-backports from"
}
