"""images.py DEVICE MOUNTPOINT: runs in a guest. For each crash image N.pages beside this file: puts it onto the device, lets the
module mount it, compares all that can be seen with N.manifest (what the engine found in the same image on the host), unmounts,
and checks."""
import fcntl
import glob
import os
import stat
import subprocess
import sys
import zlib

PAGE = 4096
BLKFLSBUF = 0x1261
device, top = sys.argv[1:]
here = os.path.dirname(os.path.abspath(__file__))


def put(path):
    """Makes the device hold the pages of a file and zeros elsewhere. All of it: what the mount of the image before stored, such as
    journal records with good checksums, is no part of this one."""
    subprocess.run(["blkdiscard", "-q", "-z", "-f", device], check=True)
    data = open(path, "rb").read()
    d = os.open(device, os.O_RDWR)
    for i in range(0, len(data), 8 + PAGE):
        os.pwrite(d, data[i + 8:i + 8 + PAGE], int.from_bytes(data[i:i + 8], "little") * PAGE)
    os.fsync(d)
    fcntl.ioctl(d, BLKFLSBUF)
    os.close(d)


def manifest():
    """What is mounted, in the words of tools/trace/src/recovered.rs."""
    lines = []
    todo = ["."]
    while todo:
        path = todo.pop()
        full = os.path.join(top, path)
        s = os.lstat(full)
        if stat.S_ISDIR(s.st_mode):
            kind, rest = "d", ""
            todo += [f"{path}/{name}" for name in os.listdir(full)]
        elif stat.S_ISLNK(s.st_mode):
            kind, rest = "l", " " + os.readlink(full)
        else:
            kind, rest = "f", f" {s.st_size} {zlib.crc32(open(full, 'rb').read())}"
        lines.append(f"{path} {kind} {stat.S_IMODE(s.st_mode):o} {s.st_nlink} {s.st_uid}{rest}\n")
    return sorted(lines)


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    return None if done.returncode == 0 else f"{' '.join(command)}: exit status {done.returncode}: {done.stdout}{done.stderr}"


def try_image(image):
    """None, or what is wrong."""
    error = run("mount", "-t", "ochre", "-o", "dax", device, top)
    if error:
        return error
    try:
        found, should = manifest(), open(image.replace(".pages", ".manifest")).readlines()
        if found != should:
            return f"differs from what the engine finds on the host: {sorted(set(found) ^ set(should))[:6]}"
        # It can be worked with.
        probe = os.path.join(top, "probe")
        with open(probe, "wb") as f:
            f.write(b"x" * 5000)
        os.unlink(probe)
    except OSError as e:
        return str(e)
    return run("umount", top) or run("fsck.ochre", device)


bad = 0
images = sorted(glob.glob(f"{here}/*.pages"), key=lambda p: int(os.path.basename(p).split(".")[0]))
for image in images:
    put(image)
    error = try_image(image)
    if error:
        bad += 1
        print(f"violation: image {os.path.basename(image)}: {error}")
        subprocess.run(["umount", top], capture_output=True)
print(f"crash-vm: {len(images)} images mounted by the module, {bad} violations")
sys.exit(1 if bad or not images else 0)
