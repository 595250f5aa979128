# The thread that waits for held pages is about to let go of an inode when the file is truncated or punched over another held page: those blocks come back too.
# And it is about to give blocks back when others have done so, and the file was promised blocks behind its end: these stay.
# test-build
# only: ochre
. "$(dirname "$0")/lib.sh"
python3 - <<'PY'
from racing import *

def again(remove, removed):
    f = make("f", data=pattern(64 * PAGE))
    m = Map(f, 64 * PAGE)
    m.read(0, 64 * PAGE)
    first, second = PinnedPage(m, 40 * PAGE), PinnedPage(m, 20 * PAGE)
    os.ftruncate(f, 30 * PAGE)
    arm("settled")
    first.release()
    wait_held("settled")
    # The thread has seen that nothing is pending. Now there is.
    remove(f)
    go("settled")
    want = os.fstat(f).st_blocks - 8
    second.release()
    poll(lambda: os.fstat(f).st_blocks == want, lambda: f"the file stays open, and the held page's block is not given back: {os.fstat(f).st_blocks} sectors")

def truncated_again(removed):
    again(lambda f: os.ftruncate(f, 10 * PAGE), removed)

def punched(removed):
    again(lambda f: fallocate(f, PUNCH_HOLE | KEEP_SIZE, 15 * PAGE, 10 * PAGE), removed)

def promised(removed):
    f = make("f", data=pattern(64 * PAGE))
    m = Map(f, 64 * PAGE)
    m.read(0, 64 * PAGE)
    pin = PinnedPage(m, 40 * PAGE)
    os.ftruncate(f, 30 * PAGE)
    arm("settle")
    pin.release()
    wait_held("settle")
    os.ftruncate(f, 30 * PAGE)
    fallocate(f, KEEP_SIZE, 30 * PAGE, 256 * PAGE)
    arm("settled")
    go("settle")
    wait_held("settled")
    go("settled")
    equal(os.fstat(f).st_blocks, 286 * 8, "blocks promised behind the end")

run(truncated_again)
run(punched)
run(promised)
PY
proved "a file that becomes pending again while the thread lets go of it is looked at again, and one with which others were faster keeps what it was promised"
