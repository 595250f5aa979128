# A MAP_SYNC fault is durable when it returns, zeros included: crashes of the real module at each of its fences. Without the fence before its record a file shows a deleted one's bytes.
# timeout: 400
. "$(dirname "$0")/lib.sh"
# Stores through MAP_SYNC to a hole and to preallocated blocks, the first of each page and others, flushed by the process or not.
list() {
    echo "0 mount"; echo "0 create f"; echo "0 truncate f 65536"; echo "0 fallocate f 0 32768 32768"
    echo "0 open s f"; echo "0 map s 65536 sync"; echo "0 store s 8 1"; echo "0 probe s"
    local page
    for page in 3 9 1 12 15 6 8; do
        echo "0 store s $((page * 4096 + 64)) $((page + 256))"
        [ $((page % 3)) != 0 ] || echo "0 flush s $((page * 4096)) 4096"
        echo "0 store s $((page * 4096 + 2048)) 77"
        echo "0 flush s $((page * 4096 + 2048)) 8"
    done
    echo "0 unmap s"; echo "0 close s"; echo "0 umount"
}
list >"$work/calls"
# explored NAME: crashes of the run.
explored() {
    CALLS=$work/calls RUN=$work/$1 STATES=${STATES:-80} BETWEEN=0 MOUNTS=0 "$TOP/scripts/crash-vm" >"$work/$1.log" 2>&1 || { cat "$work/$1.log"; fail "$1: see above"; }
    rm -rf "$work/$1/pmem"
}
explored product
WITHOUT=data-fence explored provoked
grep -q '^violation: .*in store s' "$work/provoked.log" || { cat "$work/provoked.log"; fail "no violation in a fault without the fence before its record: the test is blind"; }
say() { sed -n 's/^crash-vm: //p' "$work/$1.log" | grep crash.points | head -n 1; }
proved "MAP_SYNC faults: $(say product); without the fence before the record: $(say provoked)"
