# A truncate, punch or zero range that fails after it has taken the pages' entries away: what was stored by mmap is made durable, for no fsync would find it any more.
# test-build
# only: ochre
. "$(dirname "$0")/lib.sh"
python3 - <<'PY'
from racing import *

def fails(failure, error, call, done=0):
    def scenario(removed):
        f = make("f", data=bytes(8 * PAGE))
        m = Map(f, 8 * PAGE)
        m.write(3 * PAGE, b"stored")
        before = passed("written-back")
        failing(failure)
        refused(error, lambda: call(f), failure)
        failing()
        equal(passed("written-back") - before, 1, f"written back when {failure} failed")
        equal((os.fstat(f).st_size, os.pread(f, 6, 3 * PAGE)), (8 * PAGE, b"stored"), "the file")
        # And the next one works.
        m.write(5 * PAGE, b"more")
        before = passed("written-back")
        call(f)
        equal(passed("written-back") - before, 0, "written back though nothing failed")
        # Where nothing was mapped, nothing is looked for.
        m.close()
        g = make("g", data=bytes(8 * PAGE))
        before = passed("written-back")
        failing(failure)
        refused(error, lambda: call(g), failure)
        failing()
        equal(passed("written-back") - before, 0, "written back though never mapped")
    return scenario

run(fails("truncate", "ENOMEM", lambda f: os.ftruncate(f, PAGE)))
run(fails("punch", "ENOMEM", lambda f: fallocate(f, PUNCH_HOLE | KEEP_SIZE, PAGE, 6 * PAGE)))
run(fails("unwrite", "EIO", lambda f: fallocate(f, ZERO_RANGE, PAGE, 6 * PAGE)))
PY
proved "a truncate, punch or zero range that fails half-way writes back what was stored to the pages whose entries it took"
