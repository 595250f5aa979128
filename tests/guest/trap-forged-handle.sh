# An inode number in a file handle is looked up before anything is read as an inode: numbers that lead, by arithmetic, to a user's bytes that imitate inodes are stale, and nothing is concluded about the medium.
# test-build
# only: ochre
# timeout: 120
. "$(dirname "$0")/lib.sh"
python3 - <<'PY'
from racing import *

CHUNK = 4 * PAGE  # holds 64 records of 256 bytes

def records():
    """The inode records of some files, as the medium has them."""
    with open(DEV, "rb") as device:
        data = device.read(32 * MIB)
    pieces = (data[at:at + 256] for at in range(0, len(data), 256))
    return [piece for piece in pieces if piece[:4] == b"OINO"]

def forged(removed):
    real = records()
    check(len(real) > 30, f"the test does not find inode records on the medium: {len(real)}")
    # Every 256 bytes of a file's data are a copy of an inode's record.
    f = make("imitation")
    fallocate(f, 0, 0, 64 * MIB)
    block = b"".join(real[:16])
    os.pwrite(f, block * (64 * MIB // len(block)), 0)
    start, length = max(((physical, length) for _, physical, length, _ in extents(f)), key=lambda e: e[1])
    handle = name_to_handle(path("spare0"))
    ino, = struct.unpack_from("<Q", bytes(handle.data))
    equal(ino, os.stat(path("spare0")).st_ino, "the number in a handle")
    generation = bytes(handle.data)[8:12]
    at = os.open(MNT, os.O_RDONLY)
    os.close(open_handle(at, handle))  # a good one

    results = set()
    # By arithmetic these chunks are in the middle of the data, wherever their group begins.
    for chunk in range((start + length // 3) // CHUNK, (start + length // 2) // CHUNK, 7):
        for slot in (0, 1, 17, 63):
            h = FileHandle(handle.handle_bytes, handle.handle_type)
            data = struct.pack("<Q", chunk << 6 | slot) + generation
            ctypes.memmove(h.data, data, len(data))
            results.add(errno_name(lambda: os.close(open_handle(at, h))))
        if removed:
            break
    writable = errno_name(lambda: os.close(make("after")))
    if removed:
        equal(writable, "EROFS", "making a file: read as inodes they turn the filesystem read-only, or the test is blind")
    else:
        equal((results, writable), ({"ESTALE"}, "OK"), "forged handles, and a file made after")

removing(forged, "look-up-number")
PY
proved "forged handles whose numbers lead to a user's imitations of inodes are ESTALE; read as inodes without being looked up, they turn the filesystem read-only"
