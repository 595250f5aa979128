# A deleted file and a truncate with a held page, across freezes and a remount: freeze does not wait for them, thaw lets it go on, read-only is refused as for any deleted file in use.
# only: ochre
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
import subprocess, time
base = os.statvfs(MNT).f_bfree

def run(*args):
    # A freeze that waits does so in a sleep that no signal ends: it is left behind.
    child = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return child.wait(timeout=30)
    except subprocess.TimeoutExpired:
        return "waits"

def pinned(unlink):
    f = os.open(path("f"), os.O_RDWR | os.O_CREAT)
    os.write(f, b"old!" * (64 * PAGE // 4))
    m = Map(f, 64 * PAGE)
    m.read(PAGE, 1)
    pin = PinnedPage(m, PAGE)
    m.close()
    os.close(f)
    if unlink:
        os.unlink(path("f"))
    return pin

def comes_back(text):
    for _ in range(200):
        if os.statvfs(MNT).f_bfree >= base:
            return
        time.sleep(0.05)
    fail(f"{text}: {base - os.statvfs(MNT).f_bfree} blocks did not come back")

pin = pinned(True)
equal(run("fsfreeze", "-f", MNT), 0, "freeze with a pending inode")
pin.release()
time.sleep(0.5)
check(os.statvfs(MNT).f_bfree < base, "blocks were freed on a frozen filesystem")
equal(run("fsfreeze", "-u", MNT), 0, "thaw")
comes_back("after the thaw")

pin = pinned(True)
check(run("mount", "-o", "remount,ro", MNT) != 0, "read-only although a deleted file is in use")
pin.release()
comes_back("after the refused remount")
equal(run("mount", "-o", "remount,ro", MNT), 0, "read-only")
equal(run("mount", "-o", "remount,rw", MNT), 0, "read-write")

# A truncate with a held page, across freezes: the thread looks at the file while it may not write, again and again.
f = os.open(path("f"), os.O_RDWR | os.O_CREAT)
os.write(f, b"old!" * (64 * PAGE // 4))
m = Map(f, 64 * PAGE)
m.read(PAGE, 1)
pin = PinnedPage(m, PAGE)
os.ftruncate(f, 0)
for turn in range(3):
    equal(run("fsfreeze", "-f", MNT), 0, f"freeze {turn} with a pending truncate")
    time.sleep(1)
    equal(run("fsfreeze", "-u", MNT), 0, f"thaw {turn}")
pin.release()
m.close()
os.close(f)
os.unlink(path("f"))
comes_back("of the truncate")

# A file that has its name holds up neither.
pin = pinned(False)
with open("/proc/sys/vm/drop_caches", "w") as f:
    f.write("2")
equal(run("mount", "-o", "remount,ro", MNT), 0, "read-only beside a held page of a file with a name")
equal(pin.release(), b"old!" * (PAGE // 4), "the pipe's bytes")
equal(run("mount", "-o", "remount,rw", MNT), 0, "read-write again")
os.unlink(path("f"))
comes_back("at the end")
PY
proved "freeze, thaw, remount beside a deleted file with a held page: nothing waits, nothing is freed while frozen, all blocks come back"
