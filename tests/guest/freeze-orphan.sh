# A file whose truncate is unfinished since the last mount is opened while the filesystem is frozen, before or after the thread has come to it: the medium does not change before the thaw; then the blocks come back. Nor does the last close of what is deleted wait for the thaw.
# test-build
# only: ochre
. "$(dirname "$0")/lib.sh"
python3 - <<'PY'
from racing import *

SIZE = 64 * PAGE

def table():
    return shell("ochre", "inspect", DEV, "orphans").stdout

def remount(options):
    equal(shell("mount", "-o", f"remount,{options}", MNT).returncode, 0, f"remount {options}")

def the_thread_sleeps(thread):
    """For the thaw, that is; it is not at the point any more."""
    looks = []

    def asleep():
        with open(f"/proc/{thread}/stat") as f:
            looks.append(f.read().rsplit(")", 1)[1].split()[0] in "SDI")
        return len(looks) > 9 and all(looks[-10:])
    poll(asleep, "the thread has work")

def look_while_frozen(by_handle, handle):
    """In a process of its own: who waits for the inode cannot be killed, and the filesystem has to be thawed."""
    def look():
        if by_handle:
            at = os.open(MNT, os.O_RDONLY)
            try:
                f = open_handle(at, handle)
            finally:
                os.close(at)
        else:
            f = os.open(path("f"), os.O_RDONLY)
        os.close(f)
    actor = Actor(look=look).start("look")
    end = time.monotonic() + LONG
    while not actor.has_answered() and time.monotonic() < end:
        time.sleep(0.01)
    if not actor.has_answered():
        where = actor.stack()
        shell("fsfreeze", "-u", MNT)
        fail(f"a frozen filesystem is not to be read: a look at the file sleeps in {where}")
    outcome = actor.outcome()
    actor.end()
    return outcome

def opened_while_frozen(by_handle, thread_first):
    subprocess.run(["mkfs.ochre", "-f", DEV], check=True, stdout=subprocess.DEVNULL)
    mount_new(DEV, MNT, "dax=always")
    f = make("f", data=pattern(SIZE))
    handle = name_to_handle(path("f"))
    with Map(f, SIZE) as m:
        m.read(40 * PAGE, 1)
        pin = PinnedPage(m, 40 * PAGE)
    os.ftruncate(f, 3 * PAGE + 5)
    ino = os.fstat(f).st_ino
    os.close(f)
    # Nobody gives back blocks while it is read-only, and an unmount leaves them to the next mount.
    remount("ro")
    pin.release()
    equal(libc.umount2(MNT.encode(), 0), 0, "umount")
    check(str(ino) in table(), f"the file is on the orphan table: {table()}")
    arm("orphan")
    mount_new(DEV, MNT, "dax=always")
    thread = wait_held("orphan")
    equal(shell("fsfreeze", "-f", MNT).returncode, 0, "freeze")
    before = table()
    if thread_first:
        go("orphan")
        the_thread_sleeps(thread)
    equal(look_while_frozen(by_handle, handle), b"=", "a look at the file while frozen")
    if by_handle:
        at = os.open(MNT, os.O_RDONLY)
        f = open_handle(at, handle)
        os.close(at)
    else:
        f = os.open(path("f"), os.O_RDONLY)
    equal(os.pread(f, SIZE, 0), pattern(SIZE)[:3 * PAGE + 5], "content while frozen")
    with Map(f, SIZE, prot=PROT_READ) as m:
        equal(m.read(0, 3 * PAGE), pattern(SIZE)[:3 * PAGE], "mapped while frozen")
        equal(m.probe(5 * PAGE), False, "behind the end")
    equal(table(), before, "the orphan table of a frozen filesystem")
    if not thread_first:
        go("orphan")
        the_thread_sleeps(thread)
    equal(table(), before, "the orphan table, though the thread has looked")
    equal(shell("fsfreeze", "-u", MNT).returncode, 0, "thaw")
    poll(lambda: os.fstat(f).st_blocks == 4 * 8, lambda: f"the blocks do not come back: {os.fstat(f).st_blocks} sectors")
    g = os.open(path("f"), os.O_RDWR)
    os.ftruncate(g, SIZE)
    equal(os.pread(g, SIZE, 0), pattern(SIZE)[:3 * PAGE + 5] + bytes(SIZE - 3 * PAGE - 5), "grown again")
    os.close(f)
    os.close(g)
    equal(libc.umount2(MNT.encode(), 0), 0, "umount")
    equal(shell("fsck.ochre", DEV).returncode, 0, "fsck")

def closed_while_frozen(kind, killed):
    """The last close of something without a name returns, or its user dies, though nothing can be freed; who has its handle finds it stale."""
    subprocess.run(["mkfs.ochre", "-f", DEV], check=True, stdout=subprocess.DEVNULL)
    mount_new(DEV, MNT, "dax=always")
    def deleted():
        if kind == "directory":
            os.mkdir(path("f"))
            f, handle = os.open(path("f"), os.O_RDONLY), name_to_handle(path("f"))
            os.rmdir(path("f"))
        elif kind == "tmpfile":
            f = os.open(MNT, os.O_TMPFILE | os.O_RDWR)
            os.write(f, pattern(SIZE))
            handle = name_to_handle(f"/proc/self/fd/{f}", 0x400)
        else:
            f, handle = make("f", data=pattern(SIZE)), name_to_handle(path("f"))
            os.unlink(path("f"))
        return f, handle
    f, handle = deleted()
    actor = Actor(close=lambda: os.close(f))
    os.close(f)
    equal(shell("fsfreeze", "-f", MNT).returncode, 0, "freeze")
    before = table()
    check(before.strip(), "it is on the orphan table")
    if killed:
        os.kill(actor.pid, signal.SIGKILL)
    else:
        actor.start("close")
    def done():
        if not killed:
            return actor.has_answered()
        with open(f"/proc/{actor.pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "Z"
    end = time.monotonic() + LONG
    while not done() and time.monotonic() < end:
        time.sleep(0.01)
    if not done():
        where = actor.stack()
        shell("fsfreeze", "-u", MNT)
        fail(f"a close waits for the thaw: {where}")
    equal(actor.outcome(), b"!killed" if killed else b"=", "the close")
    actor.end()
    equal(look_while_frozen(True, handle), b"!ESTALE", "the handle while frozen")
    equal(table(), before, "the orphan table of a frozen filesystem")
    equal(shell("fsfreeze", "-u", MNT).returncode, 0, "thaw")
    poll(lambda: table() != before, "it is not freed")
    equal(libc.umount2(MNT.encode(), 0), 0, "umount")
    equal(shell("fsck.ochre", DEV).returncode, 0, "fsck")

def deleted_while_frozen(held):
    """Of a file without a name nothing is left but its handle, which is stale. It is the thread's to free: since a crash, or since a pipe let go of a page of it."""
    subprocess.run(["mkfs.ochre", "-f", DEV], check=True, stdout=subprocess.DEVNULL)
    mount_new(DEV, MNT, "dax=always")
    f = make("f", data=pattern(SIZE))
    handle = name_to_handle(path("f"))
    os.unlink(path("f"))
    if held:
        with Map(f, SIZE) as m:
            m.read(40 * PAGE, 1)
            pin = PinnedPage(m, 40 * PAGE)
        os.close(f)
    else:
        # What a power cut would leave; nothing else of the device is ever stored to.
        flush = lambda: equal(shell("blockdev", "--flushbufs", DEV).returncode, 0, "flushbufs")
        flush()
        with open(DEV, "rb") as device:
            image = device.read(CUT)
        os.close(f)
        equal(libc.umount2(MNT.encode(), 0), 0, "umount")
        with open(DEV, "rb+") as device:
            device.write(image)
            os.fsync(device.fileno())
        flush()
        arm("orphan")
        mount_new(DEV, MNT, "dax=always")
        thread = wait_held("orphan")
    equal(shell("fsfreeze", "-f", MNT).returncode, 0, "freeze")
    before = table()
    check(before.strip(), "the file is on the orphan table")
    if held:
        pin.release()
        time.sleep(0.5)  # (it looks every now and then)
    else:
        go("orphan")
        the_thread_sleeps(thread)
    equal(look_while_frozen(True, handle), b"!ESTALE", "the handle of a deleted file while frozen")
    equal(table(), before, "the orphan table of a frozen filesystem")
    equal(shell("fsfreeze", "-u", MNT).returncode, 0, "thaw")
    poll(lambda: table() != before, "the file is not freed")
    equal(libc.umount2(MNT.encode(), 0), 0, "umount")
    equal(shell("fsck.ochre", DEV).returncode, 0, "fsck")

CUT = 64 * MIB
for by_handle in (False, True):
    for thread_first in (False, True):
        opened_while_frozen(by_handle, thread_first)
for held in (False, True):
    deleted_while_frozen(held)
for kind in ("file", "tmpfile", "directory"):
    closed_while_frozen(kind, False)
closed_while_frozen("file", True)
PY
proved "looking up a file with an unfinished truncate, by name or handle, before or after the thread has come to it, neither waits for the thaw nor changes a frozen filesystem; nor does the last close of what is deleted; the thread finishes both after the thaw"
