# A namespace in raw mode is refused with the ndctl command that cures it; after that command it can be used.
# only: ochre
# devices: 2
. "$(dirname "$0")/lib.sh"
ns=$(ndctl list -N | python3 -c 'import json, sys; print([n["dev"] for n in json.load(sys.stdin) if n.get("blockdev") == "pmem1"][0])')
ndctl create-namespace -f -e "$ns" -m raw >/dev/null
trap 'ndctl create-namespace -f -e "$ns" -m fsdax -M mem -a 2M >/dev/null 2>&1 || true' EXIT
dev=/dev/$(ndctl list -N -n "$ns" | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["blockdev"])')
mount_refused EOPNOTSUPP 'raw.*ndctl create-namespace -f -e .* -m fsdax' "$dev"
ndctl create-namespace -f -e "$ns" -m fsdax -M mem -a 2M >/dev/null
trap - EXIT
udevadm settle 2>/dev/null || true
for _ in $(seq 50); do [ -b "$DEV2" ] && break; sleep 0.1; done
mkfs.ochre -f "$DEV2" >/dev/null
mount_fs "$DEV2"
echo cured >"$MNT/f"
unmount_fs
proved "a raw namespace is refused, its log line names the ndctl command, and that command cures it"
