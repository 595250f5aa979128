# A process that holds a page of its own deleted file by a pipe can exit: eviction does not wait for the pipe that the same exit would close next.
. "$(dirname "$0")/lib.sh"
mount_fs
python3 - <<'PY'
from ochretest import *
import time
base = os.statvfs(MNT).f_bfree

def free_again(text):
    for _ in range(200):
        if os.statvfs(MNT).f_bfree >= base:
            return
        time.sleep(0.05)
    fail(f"{text}: blocks did not come back: {os.statvfs(MNT).f_bfree} of {base}")

def ended(pid, text):
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return
        time.sleep(0.02)
    state = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0]
    fail(f"{text}: no end after 30 s, state {state}")

def setup(size, offset):
    f = os.open(path("f"), os.O_RDWR | os.O_CREAT)
    fallocate(f, 0, 0, size)
    m = aligned_map(f, size)
    m.write(offset, b"mine" * (PAGE // 4))
    pin = PinnedPage(m, offset)
    # close_files() runs last in, first out: the file has to be above the pipe
    g = os.dup2(f, 200, inheritable=False)
    os.close(f)
    return m, pin, g

for size, offset, text in ((16 * PAGE, 4 * PAGE, "4 KiB page"), (4 * MIB, 3 * MIB, "2 MiB page")):
    def alone():
        m, pin, g = setup(size, offset)
        m.close()
        os.unlink(path("f"))
        os._exit(0)
    ended(spawn(alone), f"{text}, exit")
    free_again(text)

    def killed():
        m, pin, g = setup(size, offset)
        m.close()
        os.unlink(path("f"))
        os.kill(os.getpid(), signal.SIGKILL)
    ended(spawn(killed), f"{text}, SIGKILL")
    free_again(text)

    # A child has inherited the pipe and nothing else: the parent's exit waits for nobody.
    r, w = os.pipe()
    def parent():
        m, pin, g = setup(size, offset)
        if os.fork() == 0:
            m.close()
            os.close(g)
            os.close(w)
            os.read(r, 1)   # until the test lets go
            equal(pin.release(), b"mine" * (PAGE // 4), "the inherited pipe's bytes")
            os._exit(0)
        m.close()
        os.unlink(path("f"))
        os._exit(0)
    ended(spawn(parent), f"{text}, a child has the pipe")
    time.sleep(0.2)
    check(os.statvfs(MNT).f_bfree < base, f"{text}: the block of a held page was freed")
    os.close(w)
    os.close(r)
    free_again(f"{text}, after the child")
PY
proved "exit, SIGKILL and exit beside a child with the pipe end at once with a page of the deleted file in the pipe (4 KiB, 2 MiB); all blocks come back"
