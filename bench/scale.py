"""scale.py OCHRE-SCALE FSCK IMAGE SIZE INODES: makes the image, checks it, compares mounts; exits 1 if a bound is missed."""
import os
import re
import shutil
import subprocess
import sys
import time

scale, fsck, image, size, inodes = sys.argv[1:]
MAX_SECONDS, MAX_MIB, MAX_RATIO = 60, 500, 1.10
VALGRIND = shutil.which("valgrind")
missed = []


def check(label):
    """Runs fsck.ochre -n: its time, and the most memory that it had."""
    start = time.monotonic()
    child = subprocess.Popen([fsck, "-n", "-q", image])
    _, status, usage = os.wait4(child.pid, 0)
    seconds, mib = time.monotonic() - start, usage.ru_maxrss / 1024
    print(f"  {label:<28}{seconds:8.2f} s {mib:8.0f} MiB of memory")
    if status != 0:
        sys.exit(f"fsck.ochre: status {status}")
    if seconds > MAX_SECONDS or mib > MAX_MIB:
        missed.append(f"check, {label}: more than {MAX_SECONDS} s or {MAX_MIB} MiB")


def mount(size, state):
    """What a mount does: counters of the medium, and instructions."""
    command = [scale, "mount", "--size", size, "--state", state]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    fields = {name: int(value) for name, value in (word.split("=") for word in out.split())}
    if VALGRIND:
        grind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*measured_mount*"]
        err = subprocess.run(grind + command, check=True, capture_output=True, text=True).stderr
        fields["instructions"] = int(re.search(r"Collected : (\d+)", err)[1])
    return fields


made = subprocess.run([scale, "make", image, "--size", size, "--inodes", inodes], check=True, capture_output=True, text=True).stdout
try:
    real = os.stat(image).st_blocks * 512 >> 20
    print(f"check of {size} with {inodes} inodes ({real} MiB on disk): {made}", end="")
    subprocess.run(["dd", f"of={image}", "oflag=nocache", "conv=notrunc,fdatasync", "count=0", "status=none"], check=False)
    check("not in the page cache")
    check("in the page cache")
finally:
    os.unlink(image)

if not VALGRIND:
    print("\nvalgrind is not installed: the instructions of a mount are not compared, only its accesses to the medium")
print(f"\n{'mount':<34}{'1 GiB':>12}{'1 TiB':>12}{'ratio':>8}")
for state in ("clean", "crashed", "full"):
    small, large = mount("1G", state), mount("1T", state)
    for name in small:
        counts = not name.startswith("statfs")
        ratio = large[name] / small[name] if small[name] else 1.0
        print(f"  {state:<10}{name:<22}{small[name]:>12}{large[name]:>12}{ratio:>8.2f}")
        if counts and not 1 / MAX_RATIO <= ratio <= MAX_RATIO:
            missed.append(f"mount, {state}: {name} differs by more than 10 %")
for line in missed:
    print(f"MISSED {line}")
sys.exit(1 if missed else 0)
