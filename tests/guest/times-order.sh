# Two change the times of a file at once, with no lock between them: what is stored last is not the older time. A read behind the end of a file is no error, however far.
# test-build
# only: ochre
. "$(dirname "$0")/lib.sh"
python3 - <<'PY'
from racing import *
COARSE = 5  # CLOCK_REALTIME_COARSE, for which Python has no name

def overtaken(removed):
    """A write fault has chosen its time; another one, later, stores its own first."""
    f = make("f", 2 * PAGE)
    m = Map(f, 2 * PAGE)
    first, second = Actor(touch=lambda: m.write(0, b"1")), Actor(touch=lambda: m.write(PAGE, b"2"))
    arm("times-chosen", first.pid)
    first.start("touch")
    wait_held("times-chosen")
    chosen = os.fstat(f).st_mtime_ns
    poll(lambda: time.clock_gettime_ns(COARSE) > chosen, "time stands still")
    second.do("touch")
    newer = os.fstat(f)
    check(newer.st_mtime_ns > chosen, "the second time is not newer: it shows nothing")
    go("times-chosen")
    first.done()
    for actor in (first, second):
        actor.end()
    m.close()
    os.close(f)
    with open("/proc/sys/vm/drop_caches", "w") as drop:
        drop.write("2")
    subprocess.run(["umount", MNT], check=True)
    mount_new(DEV, MNT, "dax=always")
    stored = os.stat(path("f"))
    equal((stored.st_mtime_ns, stored.st_ctime_ns), (newer.st_mtime_ns, newer.st_ctime_ns), "times on the medium")

run(overtaken)

def far_reads(removed):
    f = make("f", data=b"o" * 100)
    for offset in (100, PAGE, 1 << 43, 1 << 55, (1 << 55) + 1, 1 << 56, 1 << 60, (1 << 63) - PAGE):
        equal(os.pread(f, 10, offset), b"", f"read at {offset}")

run(far_reads)
PY
proved "of two times that are stored at once the newer one stays; reads behind the end give nothing, up to the largest offset"
