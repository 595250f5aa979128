# A truncate that has to wait for a held page although layout=defer is on (no room for its intent), and is killed: the file is as it was.
# test-build
# only: ochre
. "$(dirname "$0")/lib.sh"
python3 - <<'PY'
from racing import *

def killed(size, held, edge):
    data = pattern(size)
    f = make("f", size)
    fallocate(f, 0, 0, size)
    os.pwrite(f, data, 0)
    m = aligned_map(f, size)
    m.read(held, 1)
    other = PinnedPage(m, 0)
    fallocate(f, PUNCH_HOLE | KEEP_SIZE, 0, HUGE if size > HUGE else PAGE)  # its intent is on the table already
    data = os.pread(f, size, 0)
    blocks = os.fstat(f).st_blocks
    pin = PinnedPage(m, held)
    failing("truncate-intent")
    truncate = Actor(truncate=lambda: os.ftruncate(f, edge)).start("truncate")
    poll(lambda: "ochre_wait_page_idle" in truncate.stack() or truncate.has_answered(), lambda: f"the truncate does not wait but is in {truncate.stack()}")
    check(not truncate.has_answered(), "the truncate does not wait")
    os.kill(truncate.pid, signal.SIGKILL)
    truncate.end()
    failing()
    equal(os.fstat(f).st_size, size, "size after the kill")
    equal(os.pread(f, size, 0), data, "content after the kill")
    equal(m.read(0, size), data, "mapped content after the kill")
    equal(os.fstat(f).st_blocks, blocks, "blocks after the kill")
    os.ftruncate(f, edge)
    pin.release()
    other.release()
    poll(lambda: os.fstat(f).st_blocks == sum(e[2] for e in extents(f)) // 512, "blocks come back")
    equal(os.pread(f, size, 0), data[:edge], "content after a truncate that was not killed")

def small(removed):
    killed(64 * PAGE, 40 * PAGE, 30 * PAGE)

def huge(removed):
    killed(8 * MIB, 5 * MIB, 3 * MIB)

run(small)
run(huge)
PY
proved "a truncate that waits in spite of layout=defer and is killed has changed nothing (4 KiB, 2 MiB)"
