# What waits for whom can be watched: counters and pending inodes in debugfs, tracepoints of waits, deferrals and faults.
# only: ochre
. "$(dirname "$0")/lib.sh"
mount_fs
[ -d /sys/kernel/debug/ochre-pmem0 ] || mount -t debugfs none /sys/kernel/debug
[ -d /sys/kernel/tracing/events ] || mount -t tracefs none /sys/kernel/tracing
python3 - <<'PY'
from ochretest import *
import time

def counters():
    out, inodes = {}, []
    for line in open("/sys/kernel/debug/ochre-pmem0/layout"):
        words = line.split()
        if words[0] == "inode":
            inodes.append(words[1:])
        else:
            out[words[0]] = int(words[1])
    return out, inodes

def put(name, value):
    with open(f"/sys/kernel/tracing/{name}", "w") as f:
        f.write(value)

def settled():
    for _ in range(200):
        if counters()[0]["pending_inodes"] == 0:
            return
        time.sleep(0.05)
    fail(f"still pending: {counters()}")

equal(set(counters()[0].values()), {0}, "counters of a new mount")
put("trace", "")
put("tracing_on", "1")
put("events/ochre/enable", "1")
f = os.open(path("f"), os.O_RDWR | os.O_CREAT)
fallocate(f, 0, 0, 4 * MIB)
m = aligned_map(f, 4 * MIB)
m.write(0, pattern(4 * MIB))
g = os.open(path("g"), os.O_RDWR | os.O_CREAT)
os.write(g, pattern(8 * PAGE))
n = Map(g, 8 * PAGE)
n.read(5 * PAGE, 1)
pins = [PinnedPage(m, 3 * MIB), PinnedPage(n, 5 * PAGE)]
os.ftruncate(f, 2 * MIB + 3 * PAGE)
fallocate(g, PUNCH_HOLE | KEEP_SIZE, 4 * PAGE, 2 * PAGE)
equal([e[:1] + e[2:3] for e in extents(g)], [(0, 4 * PAGE), (6 * PAGE, 2 * PAGE)], "extents beside a parked page")
equal(sum(e[2] for e in extents(f)), 2 * MIB + 3 * PAGE, "extents of a file with pending blocks")
equal(os.system(f"mount -o remount,layout=wait {MNT}"), 0, "remount with layout=wait")
waiter = spawn(lambda: os.ftruncate(f, 3 * MIB))
check(blocked(waiter), "growth inside a held 2 MiB page does not wait")
now, inodes = counters()
equal((now["deferred_truncates"], now["parked_pages"], now["pending_inodes"], now["pending_blocks"], now["waiting"]), (1, 1, 2, 513, 1), "counters")
equal(sorted((i[0], i[1], i[-1]) for i in inodes), sorted([(str(os.fstat(f).st_ino), "named", "512"), (str(os.fstat(g).st_ino), "named", "1")]), "pending inodes")
for pin in pins:
    pin.release()
reap(waiter, "growth after the release")
settled()
now, _ = counters()
equal((now["waiting"], now["pending_blocks"]), (0, 0), "nothing waits, nothing is pending")
check(now["waits"] > 0 and now["longest_wait_us"] > 0, f"waits were counted: {now}")
put("events/ochre/enable", "0")
lines = [line for line in open("/sys/kernel/tracing/trace") if not line.startswith("#")]
def seen(event, *texts):
    return any(f" {event}: " in line and all(f" {t} " in line.replace("\n", " ") for t in texts) for line in lines)
fi, gi = os.fstat(f).st_ino, os.fstat(g).st_ino
for event, texts in (("dax_fault", (f"ino {fi}", "order 9", "write")), ("dax_fault", (f"ino {gi}", "order 0", "read")),
                     ("layout_defer", (f"ino {fi}", "pages 512-1024", "result 0")), ("layout_defer", (f"ino {gi}", "pages 5-6", "result 1")),
                     ("layout_break", (f"ino {gi}", "pages 4-6", "result 1")), ("layout_break", (f"ino {gi}", "pages 4-6", "result 0")),
                     ("layout_wait", (f"ino {fi}", "pages 512-1024"))):
    check(seen(event, *texts), f"no event {event} {texts} in:\n" + "".join(lines[-40:]))
PY
unmount_fs
[ ! -e /sys/kernel/debug/ochre-pmem0 ] || fail "the directory stays after umount"
proved "counters and pending inodes in debugfs are exact, tracepoints show deferral, move, break, wait and faults with order"
