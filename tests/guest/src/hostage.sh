# What eight calls do beside one page that a pipe holds, on any filesystem with DAX: make guest RUN=tests/guest/src/hostage.sh ARGS=ext4
# A call that is not back after three seconds waits; whether a fatal signal ends it is said then. Each has a file of its own.
mkdir -p /mnt
PYTHONDONTWRITEBYTECODE=1 exec python3 - "$@" <<'PY'
import subprocess
import sys
import time

from ochretest import *

fstype = sys.argv[1] if len(sys.argv) > 1 else "ochre"
MAKE = {"ext4": "mkfs.ext4 -q -F -E stride=512,stripe_width=512", "xfs": "mkfs.xfs -q -f -m reflink=0 -d su=2m,sw=1", "ochre": "mkfs.ochre -q -f"}
os.makedirs(MNT, exist_ok=True)
if fstype != "ochre":
    subprocess.call(["modprobe", fstype])
subprocess.check_call(MAKE[fstype].split() + ["/dev/pmem0"])
subprocess.check_call(["mount", "-t", fstype, "-o", "dax=always", "/dev/pmem0", MNT])


def back(pid, seconds):
    """Milliseconds until the child is gone, or None."""
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return (time.monotonic() - start) * 1000
        time.sleep(0.001)
    return None


def child(call):
    pid = os.fork()
    if pid == 0:
        call()
        os._exit(0)
    return pid


for unit, size in ((PAGE, 256 * PAGE), (HUGE, 32 * MIB)):
    held, other = size // 4, size // 2
    calls = {
        "write elsewhere": lambda f, name: os.pwrite(f, b"w" * 100, other),
        "truncate of other pages": lambda f, name: os.ftruncate(f, size - unit),
        "punch of other pages": lambda f, name: fallocate(f, PUNCH_HOLE | KEEP_SIZE, other, unit),
        "collapse of other pages": lambda f, name: fallocate(f, COLLAPSE_RANGE, other, unit),
        "punch of the held page": lambda f, name: fallocate(f, PUNCH_HOLE | KEEP_SIZE, held, unit),
        "truncate of the held page": lambda f, name: os.ftruncate(f, held),
        "rename over the file": lambda f, name: (os.close(f), os.rename(path("new"), name)),
        "unlink": lambda f, name: (os.close(f), os.unlink(name)),
    }
    for number, (text, call) in enumerate(calls.items()):
        name = path(f"{unit}-{number}")
        open(path("new"), "w").close()
        f = os.open(name, os.O_RDWR | os.O_CREAT)
        fallocate(f, 0, 0, size)
        m = aligned_map(f, size)
        m.write(0, b"x" * size)
        pin = PinnedPage(m, held)
        m.close()
        pid = os.fork()
        if pid == 0:
            call(f, name)
            os._exit(0)
        if text in ("rename over the file", "unlink"):
            os.close(f)
            f = -1
        took = back(pid, 3)
        result = f"{took:.0f} ms" if took is not None else "waits"
        reader = child(lambda: os.pread(f, 8, 8)) if f >= 0 else None
        if reader:
            read = back(reader, 3)
            result += "; a reader elsewhere " + ("waits" if read is None else f"{read:.0f} ms")
        if took is None:
            os.kill(pid, signal.SIGKILL)
            result += "; SIGKILL ends it" if back(pid, 3) is not None else "; SIGKILL does not end it"
        print(f"{fstype}, {unit // 1024} KiB, {text}: {result}", flush=True)
        pin.release()
        time.sleep(0.2)
        if f >= 0:
            os.close(f)
PY
