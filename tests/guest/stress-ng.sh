# A selection of stress-ng, each with its own verification, on the filesystem; fsck is clean afterwards.
# timeout: 200
. "$(dirname "$0")/lib.sh"
mount_fs
cd "$MNT"
for s in "dentry 1 --dentry-ops 800" "rename 1 --rename-ops 3000" "hdd 1 --hdd-ops 200 --hdd-bytes 4M" "fallocate 1 --fallocate-ops 100 --fallocate-bytes 16M" \
    "link 1 --link-ops 30" "symlink 1 --symlink-ops 30" "seek 1 --seek-ops 2000" "dir 1 --dir-ops 400" "fiemap 1 --fiemap-ops 300" "mmapfiles 1 --mmapfiles-ops 50" \
    "chmod 1 --chmod-ops 200" "chown 1 --chown-ops 200" "utime 1 --utime-ops 400" "filename 1 --filename-ops 300" "metamix 1 --metamix-ops 200" \
    "mmap 1 --mmap-file --mmap-bytes 16M --mmap-ops 20" "copy-file 1 --copy-file-ops 3 --copy-file-bytes 128M" "open 1 --open-ops 2000" "sync-file 1 --sync-file-ops 50 --sync-file-bytes 8M"; do
    # shellcheck disable=SC2086 # a list of words
    stress-ng --temp-path "$MNT" --verify --timeout 3s --oom-avoid --quiet --$s >/tmp/stress.log 2>&1 || { cat /tmp/stress.log; fail "stress-ng --$s"; }
    n=$((${n:-0} + 1))
done
cd /
unmount_fs
check_fs || fail "fsck"
proved "$n stressors of stress-ng with verification, fsck clean"
