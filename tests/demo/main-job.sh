#!/bin/bash
# Steps 1 to 4 of the demonstration, in the guest. Tells what happens; leaves rows for the closing table in /out/table.
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/script:/share/lib
say() { printf '%s\n' "$*"; }
row() { printf '%s|%s\n' "$1" "$2" >>/out/table; }
trap 'say "!! failed at line $LINENO: $BASH_COMMAND"; dmesg | tail -n 15' ERR
now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.2f s", b - a }'; }

say "   $(uname -sr), $(ndctl list -N | python3 -c 'import json, sys; print(", ".join(f"{n["blockdev"]} ({n["size"] >> 20} MiB, {n["mode"]})" for n in json.load(sys.stdin)))')"
say "   insmod ochre.ko: loaded ($(awk '/^ochre / { print $2 " bytes" }' /proc/modules)), kernel unmodified"
say "   mkfs.ochre /dev/pmem0"
mkfs.ochre -f /dev/pmem0 | sed 's/^/      /'
say "   mount -t ochre -o dax /dev/pmem0 /mnt"
t=$(now)
mount -t ochre -o dax /dev/pmem0 /mnt
say "      mounted in $(since "$t"): $(grep ' /mnt ' /proc/mounts)"
row "mount, empty" "$(since "$t")"

say "1. A real source tree: the kernel's fs/, mm/ and Documentation/filesystems/"
mkdir /dev/shm/tree
tar -C /dev/shm/tree -xf /share/tree.tar
python3 /script/compare.py snapshot /dev/shm/tree /dev/shm/want >/dev/null
say "   copying it onto the mount"
t=$(now)
cp -a /dev/shm/tree /mnt/tree
say "      cp -a took $(since "$t")"
read -r files bytes < <(python3 /script/compare.py check /mnt/tree /dev/shm/want)
say "   compared: $files files, $((bytes >> 20)) MiB, every byte, mode, owner and time the same"
say "   deleting half of it"
python3 - <<'PY'
import json, os
want = json.load(open("/dev/shm/want"))
files = sorted(p for p, r in want.items() if len(r) == 7)
for p in files[::2]:
    os.unlink("/mnt/tree/" + p)
    del want[p]
json.dump(want, open("/dev/shm/want", "w"))
PY
read -r half _ < <(python3 /script/compare.py check /mnt/tree /dev/shm/want)
umount /mnt
say "   unmounted; fsck.ochre:"
fsck.ochre /dev/pmem0 | sed 's/^/      /'
t=$(now)
mount -t ochre -o dax /dev/pmem0 /mnt
mounted=$(since "$t")
python3 /script/compare.py check /mnt/tree /dev/shm/want >/dev/null
say "   mounted again in $mounted; the $half files that stayed are the same"
row "source tree copied, compared, halved, fsck, remounted, compared" "$files files, $((bytes >> 20)) MiB, no difference"
row "mount after a clean unmount" "$mounted"
rm -rf /dev/shm/tree

say "2. Persistent memory programs"
pmempool create obj --layout=demo -s 64M /mnt/pool.obj
pmempool check -v /mnt/pool.obj | tail -n 1 | sed 's/^/   pmempool check: /'
python3 - <<'PY'
import ctypes, os
pmem = ctypes.CDLL("libpmem.so.1", use_errno=True)
pmem.pmem_map_file.restype = ctypes.c_void_p
pmem.pmem_map_file.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p]
pmem.pmem_memcpy_persist.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
n, is_pmem = ctypes.c_size_t(), ctypes.c_int()
a = pmem.pmem_map_file(b"/mnt/libpmem", 64 << 20, 1, 0o600, ctypes.byref(n), ctypes.byref(is_pmem))
assert a, os.strerror(ctypes.get_errno())
assert is_pmem.value == 1, "libpmem says is_pmem=0"
text = b"persisted by libpmem" * 100000
pmem.pmem_memcpy_persist(a + 4096, text, len(text))
with open("/mnt/libpmem", "rb") as f:
    f.seek(4096)
    assert f.read(len(text)) == text
print(f"   libpmem maps a file of {n.value >> 20} MiB: is_pmem={is_pmem.value} (MAP_SYNC granted), pmem_memcpy_persist read back")
PY
row "pmempool create and check; libpmem" "consistent; is_pmem=1"
engines=mmap
fio --enghelp 2>/dev/null | grep -qw libpmem && engines="mmap libpmem"
for e in $engines; do
    # libpmem wants whole 2 MiB mappings and O_DIRECT
    t=$(now)
    fio --name=verify --directory=/mnt --ioengine="$e" --direct=$([ "$e" = mmap ] && echo 0 || echo 1) --rw=randwrite --bs=4k --size=32m \
        --verify=crc32c --do_verify=1 --verify_fatal=1 --verify_state_save=0 --randseed=42 --iodepth=1 --output=/tmp/fio.log
    ! grep -qi 'verify failed' /tmp/fio.log
    say "   fio ioengine=$e: 32 MiB written in random 4 KiB pieces and verified (crc32c) in $(since "$t")"
    rm -f /mnt/verify*
done
row "fio with verify" "${engines// / and }: no error"

say "3. Databases on mmap"
python3 - <<'PY'
import hashlib, json, os, sqlite3, subprocess
import lmdb
want = json.load(open("/dev/shm/want"))
rows = [(p, r[5], r[6]) for p, r in want.items() if len(r) == 7]
lines = []
for p, _, _ in rows:
    with open("/mnt/tree/" + p, "rb") as f:
        lines += [(p, i, l) for i, l in enumerate(f.read().split(b"\n"))][:60]
lines = lines[:40000]
for mode in ("delete", "wal"):
    path = f"/mnt/{mode}.db"
    db = sqlite3.connect(path)
    db.execute("pragma mmap_size = 268435456")
    db.execute(f"pragma journal_mode = {mode}")
    db.execute("create table file (path text primary key, size int, sha text)")
    db.execute("create table line (path text, n int, text blob)")
    with db:
        db.executemany("insert into file values (?, ?, ?)", rows)
        db.executemany("insert into line values (?, ?, ?)", lines)
    db.execute("create index by_path on line (path, n)")
    with db:
        db.execute("delete from line where n % 7 = 3")
    db.close()
    db = sqlite3.connect(path)
    db.execute("pragma mmap_size = 268435456")
    n, = db.execute("select count(*) from file join line using (path)").fetchone()
    assert n == sum(1 for l in lines if l[1] % 7 != 3), n
    total, = db.execute("select sum(size) from file").fetchone()
    assert total == sum(r[1] for r in rows)
    assert db.execute("pragma integrity_check").fetchone() == ("ok",)
    mapped = any(path in l for l in open("/proc/self/maps"))
    assert mapped, "SQLite did not map the database"
    size = os.path.getsize(path)
    db.close()
    print(f"   SQLite ({mode} journal, mmap_size): {len(rows)} files and {n} lines joined, integrity_check ok, {size >> 10} KiB")
env = lmdb.open("/mnt/lmdb", map_size=128 << 20, writemap=True)
with env.begin(write=True) as t:
    for p, size, sha in rows:
        t.put(p.encode()[:500], f"{size} {sha}".encode())
for k in range(0, 20):
    with env.begin(write=True) as t:
        for i in range(k * 1000, k * 1000 + 1000):
            t.put(b"%08d" % i, hashlib.sha256(b"%d" % i).digest() * 3)
env.close()
env = lmdb.open("/mnt/lmdb", map_size=128 << 20, readonly=True)
with env.begin() as t:
    for p, size, sha in rows:
        assert t.get(p.encode()[:500]) == f"{size} {sha}".encode()
    for i in range(20000):
        assert t.get(b"%08d" % i) == hashlib.sha256(b"%d" % i).digest() * 3
    print(f"   LMDB (writable map): {t.stat()['entries']} entries filled and read back")
PY
row "SQLite with mmap_size (both journals); LMDB" "integrity_check ok; all read back"

say "4. A mapped file of 64 MiB sits on 2 MiB pages"
python3 - <<'PY'
from ochretest import *
N = 64 * MIB
f = os.open(path("huge"), os.O_RDWR | os.O_CREAT)
fallocate(f, 0, 0, N)
m = aligned_map(f, N)
with Faults() as t:
    for o in range(0, N, PAGE):
        m.write(o, b"x")
big, small = t.count("dax_pmd_fault_done", "NOPAGE"), t.count("dax_pte_fault_done")
share = huge_pages(m) / N
print(f"   all {N // PAGE} pages touched: {big} faults of 2 MiB, {small} of 4 KiB; {share:.0%} of it on 2 MiB page-table entries")
with open("/out/table", "a") as out:
    out.write(f"mapped file of 64 MiB|{big} PMD faults, {small} PTE faults, PMD share {share:.0%}\n")
assert (big, small, share) == (32, 0, 1.0)
PY
umount /mnt
fsck.ochre /dev/pmem0 >/tmp/fsck.log || { cat /tmp/fsck.log; exit 1; }
say "   unmounted, fsck.ochre: clean"
