# A deleted file with a held page, across a freeze and a remount: freeze does not wait for it, thaw lets it go on, read-only is refused as for any deleted file in use.
# only: ochre
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
import subprocess, time
base = os.statvfs(MNT).f_bfree

def run(*args):
    return subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30).returncode

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
