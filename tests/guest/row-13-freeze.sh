# Freeze and write faults: all kinds wait for the thaw, without holding up a freeze themselves. Without sb_start_pagefault a store changes a frozen filesystem.
# test-build
# only: ochre
# timeout: 240
. "$(dirname "$0")/lib.sh"
python3 - <<'PY'
from racing import *

def freeze(how="-f"):
    """In a process of its own, since a freeze that waits is deaf to signals."""
    return subprocess.Popen(["fsfreeze", how, MNT], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

def ended(process, text):
    poll(lambda: process.poll() is not None, text)
    equal(process.returncode, 0, text)

def device_bytes(at, n):
    with open(DEV, "rb") as device:
        device.seek(at)
        return device.read(n)

def stores(removed):
    """A store to a hole, to a page whose zero page is mapped, to one that is mapped read-only since a sync, to preallocated blocks, each with 4 KiB and
    2 MiB pages, and to a page that is mapped for writing (the freeze writes it back, and so makes it read-only)."""
    kinds = {}
    for huge in (False, True):
        size = 2 * HUGE if huge else 4 * PAGE
        for kind in ("hole", "zero page", "clean", "preallocated", "writable"):
            f = make(f"{kind}{huge}", size)
            if kind not in ("hole", "zero page"):
                fallocate(f, 0, 0, size)
            m = aligned_map(f, size) if huge else Map(f, size)
            if kind == "zero page":
                m.read(0, 1)
            if kind in ("clean", "writable"):
                m.write(0, b"old!")
            if kind == "clean":
                m.sync()
            def store(m=m, kind=kind):
                if kind in ("zero page", "clean", "writable"):
                    m.read(0, 1)
                m.write(0, b"mine")
            kinds[kind, huge] = f, Actor(store=store, read=lambda m=m: m.read(PAGE, 4))
    for kind in ("writable", False), ("writable", True):
        kinds[kind][1].do("store")  # (each process maps for itself)
    before = {kind: os.fstat(f).st_blocks for kind, (f, _) in kinds.items()}
    block = block_of(kinds["clean", False][0])  # (FIEMAP writes back)
    equal(device_bytes(block, 4), b"old!", "the device")
    with open("/proc/sys/vm/drop_caches", "w") as drop:
        drop.write("1")  # what was just read of the device
    ended(freeze(), "the freeze")
    for kind, (f, actor) in kinds.items():
        actor.start("store")
    for kind, (f, actor) in kinds.items():
        if removed:
            actor.done(f"a store while frozen: {kind}")
        else:
            actor.waits(f"a store while frozen: {kind}")
    changed = {kind for kind, (f, _) in kinds.items() if os.fstat(f).st_blocks != before[kind]}
    frozen = device_bytes(block, 4)
    reader = Actor(read=lambda: os.pread(kinds["hole", False][0], 4, 0))
    reader.do("read")
    ended(freeze("-u"), "the thaw")
    if removed:
        check(("hole", False) in changed and ("zero page", True) in changed and frozen == b"mine",
              f"without its guard a store changes the frozen filesystem, or the test is blind: blocks given to {changed}, the device has {frozen}")
        return
    equal((changed, frozen), (set(), b"old!"), "what changed while frozen")
    for kind, (f, actor) in kinds.items():
        actor.done(f"a store after the thaw: {kind}")
        equal(os.pread(f, 4, 0), b"mine", f"the file: {kind}")

removing(stores, "hold-freeze")

def hostage(removed):
    """A write fault finds no free block, and waits until the mount's thread has looked for some. A freeze does not wait for that."""
    take_all(make("full"))
    f = make("f", 4 * PAGE)
    m = Map(f, 4 * PAGE)
    user = Actor(store=lambda: m.write(0, b"mine"))
    arm("thread-pass")
    user.start("store")
    wait_held("thread-pass")
    user.waits("a store that finds no space")
    freezing = freeze()
    if removed:
        def waits():
            with open(f"/proc/{freezing.pid}/stack") as stack:
                return "freeze_super" in stack.read()
        for _ in range(10):
            poll(lambda: waits() or freezing.poll() is not None, "the freeze does not begin")
            check(freezing.poll() is None, "a fault that keeps its guard while it waits holds up a freeze, or the test is blind")
            time.sleep(0.02)
        go("thread-pass")
        ended(freezing, "the freeze, after the fault")
    else:
        ended(freezing, "the freeze, beside a fault that waits")
        go("thread-pass")
    ended(freeze("-u"), "the thaw")
    equal(user.outcome(), b"!killed", "a store without a block to be had")

removing(hostage, "let-freeze")
PY
proved "write faults of all kinds (4 KiB, 2 MiB) wait for the thaw and reads do not, a fault that waits for something else does not hold up a freeze; without the guard a frozen filesystem changes"
