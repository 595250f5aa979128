# fio writes and verifies by mmap, psync, and libpmem where Debian's fio has it.
. "$(dirname "$0")/lib.sh"
mount_fs
done=''
for e in psync mmap $(fio --enghelp | grep -ow libpmem || true); do
    for rw in write randwrite; do
        fio --name=v --directory="$MNT" --ioengine="$e" --direct=$([ "$e" = libpmem ] && echo 1 || echo 0) --rw=$rw --bs=$([ $rw = write ] && echo 128k || echo 4k) \
            --size=16m --verify=crc32c --verify_fatal=1 --verify_state_save=0 --randseed=7 --output=/tmp/fio.log >/dev/null 2>&1 || { cat /tmp/fio.log; fail "fio $e $rw"; }
        rm -f "$MNT"/v*
    done
    done="$done $e"
done
proved "fio with crc32c verification, sequential and random:$done"
