# What lies behind the end of a file for want of memory: blocks that a truncate did not come to free, bytes of a write that could not set the size.
# test-build
# only: ochre
. "$(dirname "$0")/lib.sh"
python3 - <<'PY'
from racing import *

def left_by_truncate(removed):
    """The next write at the end goes to blocks of its own, and stays."""
    for write in (lambda f, at: os.pwrite(f, b"W" * PAGE, at), lambda f, at: os.pwrite(f, b"W" * 3 * PAGE, at)):
        f = make("f", data=b"o" * 8 * PAGE)
        failing("free-behind")
        os.ftruncate(f, 2 * PAGE)
        failing()
        n = write(f, 2 * PAGE)
        os.fsync(f)
        equal(os.pread(f, 99 * PAGE, 0), b"o" * 2 * PAGE + b"W" * n, "the file")
        os.ftruncate(f, 20 * PAGE)
        equal(os.pread(f, 99 * PAGE, 2 * PAGE + n), bytes(18 * PAGE - n), "what growth shows")
        poll(lambda: os.fstat(f).st_blocks == (2 * PAGE + n) // 512, "blocks are lost")
        os.close(f)
        os.unlink(path("f"))

run(left_by_truncate)

def left_by_write(removed):
    """A write within the last block that could not set the size: growth does not show what it has stored."""
    f = make("f", data=b"o" * 100)
    failing("finish")
    refused("ENOMEM", lambda: os.pwrite(f, b"W" * 100, 100), "write")
    failing()
    equal((os.fstat(f).st_size, os.pread(f, PAGE, 0)), (100, b"o" * 100), "the file")
    os.ftruncate(f, 300)
    equal(os.pread(f, PAGE, 0), b"o" * 100 + bytes(200), "what growth shows")

run(left_by_write)

def counts(removed):
    """What the file has by then is counted: a program that goes on there writes nothing twice."""
    f = make("f", data=b"o" * 100)
    failing("finish")
    equal(os.pwrite(f, b"W" * 150, 50), 50, "bytes of a write across the end")
    failing()
    equal((os.fstat(f).st_size, os.pread(f, PAGE, 0)), (100, b"o" * 50 + b"W" * 50), "the file")
    os.ftruncate(f, 300)
    equal(os.pread(f, PAGE, 100), bytes(200), "what growth shows")

run(counts)
PY
proved "blocks that a truncate had no memory to free are not written to, bytes that a failed write left behind the end are not shown"
