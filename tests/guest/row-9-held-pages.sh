# Map, start I/O, remove, end I/O: a held page's block is nobody else's until it is let go. Where holders are not looked for, or their entries not left alone, they see and overwrite another file.
# test-build
# only: ochre
# timeout: 300
. "$(dirname "$0")/lib.sh"
# udev would look at the device, and wait for ever.
udevadm control --stop-exec-queue
trap 'dmsetup suspend --nolockfs slow; dmsetup remove --noudevsync --noudevrules slow; udevadm control --start-exec-queue || true' EXIT
modprobe brd rd_nr=1 rd_size=1024
modprobe dm-delay 2>/dev/null || true
dmsetup create slow --noudevsync --noudevrules --table "0 2048 delay /dev/ram0 0 100000000"
SLOW_DEVICE=/dev/dm-$(dmsetup info -c --noheadings -o minor slow)
export SLOW_DEVICE
python3 - <<'PY'
from racing import *
from holders import DirectRead, Pipe, UringRead, VmWrite

class Case:
    """One file, one held page."""
    size, start, held_at = 4 * PAGE, 2 * PAGE, 2 * PAGE

    def __init__(self, way, name="f"):
        self.name = name
        self.f = f = make(name)
        fallocate(f, 0, 0, self.size)
        self.m = m = aligned_map(f, self.size)
        data = pattern(self.size, 9)
        m.write(0, data)
        self.want = data[self.held_at:self.held_at + PAGE]
        self.block = block_of(f, self.held_at)
        self.unit = self.size - self.start
        self.set_up()
        self.held = way(m, self.held_at, self.want)

    def set_up(self):
        pass

    def truncate(self):
        os.ftruncate(self.f, self.start)

    def truncate_inside(self):
        os.ftruncate(self.f, self.start + 5 * PAGE)

    def punch(self):
        fallocate(self.f, PUNCH_HOLE | KEEP_SIZE, self.start, self.unit)

    def collapse(self):
        fallocate(self.f, COLLAPSE_RANGE, self.start - self.unit, self.unit)

    def unlink(self):
        self.m.close()
        os.close(self.f)
        os.unlink(path(self.name))

class Huge(Case):
    size, start, held_at = 2 * HUGE, HUGE, HUGE + 300 * PAGE

    def set_up(self):
        equal(huge_pages(self.m), 2 * HUGE, "2 MiB pages mapped")

class Collapsed(Case):
    """(A collapse may not reach the end of the file.)"""
    held_at = PAGE

def scenario(kind, way, cut):
    def carry_out(removed):
        case = kind(way)
        held, block = case.held, case.block
        getattr(case, cut)()
        if removed:
            victim, at = next_owner(block)
            if held.stored is None:
                held.want = b"v" * PAGE  # what the holder finds
            held.release()
            if held.stored is not None:
                equal(os.pread(victim, PAGE, at), held.stored, f"{carry_out.__name__}: without a look for holders the device stores into the other file, or the test is blind")
            return
        not_free(block)
        held.release()
        next_owner(block)
    carry_out.__name__ = f"{cut}, {kind.__name__}, {way.__name__}"
    return carry_out

for kind, way, cut in (
        (Case, Pipe, "truncate"), (Case, UringRead, "punch"), (Collapsed, Pipe, "collapse"), (Case, UringRead, "unlink"),
        (Case, DirectRead, "truncate"), (Huge, VmWrite, "punch"),
        (Huge, UringRead, "truncate"), (Huge, Pipe, "punch"), (Huge, UringRead, "truncate_inside"), (Huge, Pipe, "unlink")):
    removing(scenario(kind, way, cut), "look-for-holders", pages_harmed=kind is Huge)

# The other policy: it waits, and a signal ends that with nothing changed.
def waiting(kind, way, cut):
    def carry_out(removed):
        case = kind(way)
        remover = Actor(remove=getattr(case, cut)).start("remove")
        if removed:
            remover.done()
            next_owner(case.block)
            if case.held.stored is None:
                case.held.want = b"v" * PAGE
            case.held.release()
            return
        remover.waits(f"{cut} of a held page", "wait_page_idle")
        os.kill(remover.pid, signal.SIGKILL)
        equal(remover.end(), signal.SIGKILL, "its end")
        equal(os.pread(case.f, case.size, 0), pattern(case.size, 9), "the file")
        not_free(case.block)
        case.held.release()
        getattr(case, cut)()
        next_owner(case.block)
    carry_out.__name__ = f"{cut} with layout=wait"
    return carry_out

removing(waiting(Case, Pipe, "truncate"), "look-for-holders", options="dax=always,layout=wait")
removing(waiting(Huge, Pipe, "punch"), "look-for-holders", options="dax=always,layout=wait", pages_harmed=True)

# truncate_pagecache() while something is pending deletes the entry by which the thread knows of the holder.
def forgotten(removed):
    scenario(Case, Pipe, "truncate")(removed)
    if removed:
        check(any("truncate" in line for line in complaints()), f"no complaint of mm/truncate.c: {complaints()}")

removing(forgotten, "keep-held-entries")

def hostage(removed):
    """The last close of a deleted file, of which a pipe has a page. Without deferral it sleeps in evict, and no signal ends that."""
    pipe = os.pipe()
    def close():
        f = make("f", data=b"mine" * PAGE)
        with Map(f, 4 * PAGE) as m:
            PinnedPage(m, PAGE, pipe=pipe)
        os.unlink(path("f"))
        os.close(f)
    closer = Actor(close=close).start("close")
    if removed:
        closer.waits("the last close of a deleted file", "evict")
        os.kill(closer.pid, signal.SIGKILL)
        closer.waits("and it cannot be killed", "evict")
        os.read(pipe[0], PAGE)  # lets go of the page
        equal(closer.end(), signal.SIGKILL, "its end")
    else:
        closer.done("the last close of a deleted file")

removing(hostage, "defer-eviction")
PY
proved "a held page's block goes to nobody until it is let go (truncate, punch, collapse, unlink; 4 KiB, 2 MiB, across the new end; a pipe, O_DIRECT, io_uring, process_vm_writev); without the look the holder sees and overwrites another file, without deferral the last close cannot be killed"
