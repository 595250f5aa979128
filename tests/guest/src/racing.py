"""Races on demand, with the module's test build (src/testing.rs): tasks held at named places, protections taken away.

Each scenario of a row runs twice: as the product is, where the outcome must be right, and without a protection, where the harm must
show: else the test has no eyes. The second time the kernel's complaints are part of the harm, and the filesystem is made anew after."""
import os
import select
import subprocess
import time
import ochretest
from ochretest import *

ROOT = "/sys/kernel/debug/ochre-test"
DEV = os.environ.get("DEV", "/dev/pmem0")
SLOW = int(os.environ.get("SLOW", "1"))
LONG = 40 * SLOW  # seconds after which something has gone wrong


def _put(name, text):
    with open(f"{ROOT}/{name}", "w") as f:
        f.write(text)


def without(*protections):
    _put("without", " ".join(protections) + "\n")


def failing(*failures):
    _put("fail", " ".join(failures) + "\n")


def _points():
    with open(f"{ROOT}/pause") as f:
        return {line.split()[0]: line.split()[1:] for line in f}


def passed(point):
    return int(_points()[point][1])


def arm(point, task=None):
    """The next task (this one) that comes by is held."""
    _put("pause", f"{point} {task or ''}\n")


def go(point):
    _put("pause", f"go {point}\n")


def poll(condition, text):
    end = time.monotonic() + LONG
    while not (result := condition()):
        if time.monotonic() > end:
            fail(text() if callable(text) else text)
        time.sleep(0.01)
    return result


def wait_held(point):
    """Who is held there."""
    poll(lambda: "held" in _points()[point], lambda: f"nobody came to {point}: {_points()[point]}; stacks: {Actor.stacks()}")
    return int(_points()[point][-1])


def fail(text):
    """Lets everybody go first: the filesystem must come free for the next test."""
    for point in _points():
        go(point)
    _fail(text)


_fail, ochretest.fail = ochretest.fail, fail


class Actor:
    """A process that does one of `deeds` at a time, when told."""
    everyone = []

    def __init__(self, **deeds):
        orders, self.orders = os.pipe()
        self.answers, answers = os.pipe()

        def loop():
            for other in Actor.everyone:
                os.close(other.orders)
            os.close(self.orders)
            while order := os.read(orders, 64):
                try:
                    result = deeds[order.decode()]()
                    os.write(answers, b"=" + (result if isinstance(result, bytes) else b""))
                except OSError as e:
                    os.write(answers, b"!" + errno.errorcode.get(e.errno, str(e.errno)).encode())
        self.pid = spawn(loop)
        os.close(orders)
        os.close(answers)
        Actor.everyone.append(self)

    @staticmethod
    def stacks():
        return {actor.pid: actor.stack() for actor in Actor.everyone}

    def stack(self):
        try:
            with open(f"/proc/{self.pid}/stack") as f:
                return " ".join(line.split("] ")[-1].split("+")[0] for line in f.read().split("\n") if line)
        except OSError:
            return "(gone)"

    def start(self, deed):
        os.write(self.orders, deed.encode())
        return self

    def done(self, text="the other process"):
        """What the deed gave; fails if it ended with an error."""
        got = self.outcome()
        if got[:1] != b"=":
            fail(f"{text}: {got.decode()}")
        return got[1:]

    def outcome(self):
        if not select.select([self.answers], [], [], LONG)[0]:
            fail(f"no end: {Actor.stacks()}")
        got = os.read(self.answers, 1 << 16)
        return got or b"!killed"

    def do(self, deed):
        return self.start(deed).done(deed)

    def sleeps(self, function):
        """It sleeps, not for an order nor at a point, and below `function`. (The kernel's sleeping functions are not in its stack.)"""
        with open(f"/proc/{self.pid}/stat") as f:
            state = f.read().rsplit(")", 1)[1].split()[0]
        stack = self.stack()
        return state in "SDI" and stack and function in stack and "pipe_read" not in stack and "testing5build5pause" not in stack

    def waits(self, text, function=""):
        """It must have come to sleep there, and have no answer."""
        looks = []

        def asleep():
            looks.append(self.sleeps(function))
            return self.has_answered() or (len(looks) > 9 and all(looks[-10:]))
        poll(asleep, lambda: f"{text}: not asleep in {function} but in {self.stack()}")
        if self.has_answered():
            fail(f"{text}: did not wait: {self.outcome().decode()}")

    def has_answered(self):
        return bool(select.select([self.answers], [], [], 0)[0])

    def end(self):
        """Status of its end, by itself or by a signal."""
        os.close(self.orders)
        os.close(self.answers)
        Actor.everyone.remove(self)
        return os.waitpid(self.pid, 0)[1]


def shell(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


# Empty files that `next_owner` fills.
SPARES = 150


def run(scenario, *gone, options="dax=always", harmed=None, pages_harmed=False):
    """Carries out a scenario (in a process of its own) on a new filesystem, without the protections `gone`. The filesystem is
    checked afterwards, unless something is gone. `harmed`, where something is gone, says what fsck must find (a part of its text);
    `pages_harmed`, that the kernel's counts of the device's pages are wrong then."""
    subprocess.run(["mkfs.ochre", "-f", DEV], check=True, stdout=subprocess.DEVNULL)
    if gone:
        say("ochre-test: provoked from here")
        again_warn_once()
    mount_new(DEV, MNT, options)
    without(*gone)

    for spare in range(SPARES):
        os.close(make(f"spare{spare}"))

    def body():
        os.sched_setaffinity(0, {0})  # new files begin in the group of this CPU, where freed blocks are as well
        scenario(bool(gone))
        for actor in list(Actor.everyone):
            actor.end()
    reap(spawn(body), f"{scenario.__name__} without {gone or 'nothing'}")
    without()
    failing()
    subprocess.run(["umount", MNT], check=True)
    if gone:
        if pages_harmed:
            renew_pages()
        again_warn_once()
        say("ochre-test: provoked up to here")
    result = shell("fsck.ochre", DEV)
    if harmed is not None:
        check(result.returncode != 0 and harmed in result.stdout, f"fsck.ochre did not find '{harmed}': {result.stdout}")
    elif not gone and result.returncode != 0:
        fail(f"fsck.ochre: {result.stdout}")


def say(text):
    with open("/dev/kmsg", "w") as f:
        f.write(text + "\n")


def complaints():
    """What the kernel has complained of since the scenario began without a protection: lines with WARNING."""
    since = shell("dmesg").stdout.rsplit("ochre-test: provoked from here", 1)[-1]
    return [line for line in since.split("\n") if "WARNING:" in line]


def again_warn_once():
    """Warnings that come once a boot come again: one that was provoked must not hide another."""
    if os.path.exists("/sys/kernel/debug/clear_warn_once"):
        with open("/sys/kernel/debug/clear_warn_once", "w") as f:
            f.write("1")


def renew_pages():
    """Takes the device away from its driver and gives it back, which makes its struct pages anew."""
    device = os.path.realpath(f"/sys/block/{os.path.basename(DEV)}/device")
    driver = os.path.realpath(f"{device}/driver")
    for what in ("unbind", "bind"):
        with open(f"{driver}/{what}", "w") as f:
            f.write(os.path.basename(device))
    poll(lambda: os.path.exists(DEV), f"{DEV} did not come back")


def removing(scenario, *gone, **more):
    """Carries a scenario out as the product is, and then without `gone`. It is told which."""
    run(scenario, **{k: v for k, v in more.items() if k == "options"})
    # On a slow kernel (the one with all checkers) a provoked complaint would turn a checker off for the rest of the run.
    if SLOW == 1:
        run(scenario, *gone, **more)


def make(name, size=0, data=None):
    fd = os.open(path(name), os.O_RDWR | os.O_CREAT, 0o644)
    if size:
        os.ftruncate(fd, size)
    if data is not None:
        os.pwrite(fd, data, 0)
    return fd


def block_of(fd, offset=0):
    """Where on the device the block at `offset` is, or None."""
    for logical, physical, length, _ in extents(fd):
        if logical <= offset < logical + length:
            return physical + offset - logical
    return None


def next_owner(block, byte=b"v"):
    """A new file that has been given this free block, full of `byte`: its descriptor, and where in it the block is."""
    def offset_in(fd):
        for logical, physical, length, _ in extents(fd):
            if physical <= block < physical + length:
                return logical + block - physical
        return None
    # Single blocks, more than a slot of 2 MiB has: the slot that is broken fills up. They go into files that are there already and have few
    # enough pieces: a directory or an extent tree that grows might take the block.
    for spare in range(SPARES):
        fd = make(f"spare{spare}")
        for piece in range(6):
            os.pwrite(fd, byte * PAGE, 2 * piece * PAGE)
        at = offset_in(fd)
        if at is not None:
            return fd, at
        os.close(fd)
    fd = make("large")
    take_all(fd)
    at = offset_in(fd)
    check(at is not None, f"the block at {block} is not free")
    os.pwrite(fd, byte * PAGE, at)
    return fd, at


def take_all(fd):
    """Gives a file all blocks that are free; those that were let go a moment ago, too."""
    end, step = 0, 256 * MIB
    while step >= PAGE:
        try:
            fallocate(fd, 0, end, step)
            end += step
        except OSError as e:
            equal(e.errno, errno.ENOSPC, "taking all space")
            step //= 2


def not_free(block):
    """Nobody can have this block: a file that takes all that is free does not get it."""
    fd = make("all")
    take_all(fd)
    for logical, physical, length, _ in extents(fd):
        check(not physical <= block < physical + length, f"the block at {block} was given to another file")
    os.unlink(path("all"))
    os.close(fd)
