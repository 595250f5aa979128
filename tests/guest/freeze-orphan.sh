# A file whose truncate is unfinished since the last mount is opened while the filesystem is frozen: the medium does not change before the thaw; then the blocks come back.
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

def opened_while_frozen(by_handle):
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
    wait_held("orphan")
    equal(shell("fsfreeze", "-f", MNT).returncode, 0, "freeze")
    before = table()
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
    go("orphan")
    time.sleep(0.5)
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

opened_while_frozen(False)
opened_while_frozen(True)
PY
proved "opening a file with an unfinished truncate, by name or handle, changes nothing on a frozen filesystem; the thread finishes it after the thaw"
