# Four processes create, rename, link and remove in the same directories; afterwards every process finds what it left, and fsck is clean.
# timeout: 180
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
import json
rnd = seed()
DIRS = [path(f"d{i}") for i in range(5)]
for d in DIRS:
    os.mkdir(d)
def worker(k, s):
    r, mine = random.Random(s), {}
    for i in range(1500):
        dice = r.random()
        if dice < 0.5 or len(mine) < 5:
            n = f"{r.choice(DIRS)}/p{k}-{i}" + "n" * r.randrange(60)
            text = f"{k} {i}"
            with open(n, "x") as f:
                f.write(text)
            mine[n] = text
        elif dice < 0.7:
            a, b = r.choice(list(mine)), f"{r.choice(DIRS)}/p{k}-r{i}"
            os.rename(a, b)
            mine[b] = mine.pop(a)
        elif dice < 0.8:
            a, b = r.choice(list(mine)), f"{r.choice(DIRS)}/p{k}-l{i}"
            os.link(a, b)
            mine[b] = mine[a]
        else:
            n = r.choice(list(mine))
            os.unlink(n)
            del mine[n]
        if i % 50 == 0:
            d = f"{r.choice(DIRS)}/dir{k}-{i}"
            os.mkdir(d)
            os.rename(d, f"{r.choice(DIRS)}/moved{k}-{i}")
    with open(f"/tmp/mine{k}", "w") as f:
        json.dump(mine, f)
for c in [spawn(lambda k=k: worker(k, rnd.randrange(1 << 30) + k)) for k in range(4)]:
    reap(c, "worker")
def look(text):
    want = {}
    for k in range(4):
        want.update(json.load(open(f"/tmp/mine{k}")))
    got = {f"{d}/{n}" for d in DIRS for n in os.listdir(d) if not os.path.isdir(f"{d}/{n}")}
    equal(got, set(want), text + ": names")
    for n, t in want.items():
        equal(open(n).read(), t, text)
    for d in DIRS:
        equal(os.stat(d).st_nlink, 2 + sum(os.path.isdir(f"{d}/{n}") for n in os.listdir(d)), "links of a directory")
look("after the storm")
raise_errno(libc.umount2(MNT.encode(), 0))
mount_new("/dev/pmem0", MNT, "dax=always")
look("after a remount")
PY
unmount_fs
check_fs || fail "fsck"
proved "four processes, 6000 calls in five shared directories: all names, contents and link counts right, fsck clean"
