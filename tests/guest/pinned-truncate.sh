# With layout=wait, a page that a pipe holds (vmsplice) is not given back: truncate waits while the pipe has it, returns after, and the pipe's bytes are the old ones.
. "$(dirname "$0")/lib.sh"
mount_fs $DEV $MNT "$([ $FSTYPE != ochre ] || echo layout=wait)"
python3 - <<'PY'
from ochretest import *
f = os.open(path("f"), os.O_RDWR | os.O_CREAT)
os.write(f, b"old!" * (4 * PAGE // 4))
m = Map(f, 4 * PAGE)
m.read(2 * PAGE, 1)
pin = PinnedPage(m, 2 * PAGE)
child = spawn(lambda: os.ftruncate(f, PAGE))
check(blocked(child), "truncate returned although a pipe holds a page of the file")
equal(os.waitpid(child, os.WNOHANG)[0], 0, "truncate is waiting")
# meanwhile the blocks go to nobody else, even when everything free is taken
filler = os.open(path("filler"), os.O_RDWR | os.O_CREAT)
try:
    for o in range(0, 1 << 40, 4 * MIB):
        os.pwrite(filler, b"new." * MIB, o)
except OSError as e:
    equal(errno.errorcode[e.errno], "ENOSPC", "filling")
equal(pin.release(), b"old!" * (PAGE // 4), "the pipe's bytes")
reap(child, "truncate after the release")
equal(os.fstat(f).st_size, PAGE, "size")
equal(m.probe(2 * PAGE), False, "mapping beyond the end")
os.ftruncate(f, 4 * PAGE)
equal(os.pread(f, 4 * PAGE, 0), b"old!" * (PAGE // 4) + bytes(3 * PAGE), "grown again")
PY
proved "truncate waits for a page that a pipe holds, the block goes to nobody else meanwhile, and truncate ends after the release"
