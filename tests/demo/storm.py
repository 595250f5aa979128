"""A storm of metadata calls whose every return is logged outside the pmem, and the check of what a power cut left of it.

storm.py storm DIRECTORY LOG SEED     runs until killed: creates with content, renames, links, truncates, removals
storm.py verify DIRECTORY LOG SEED    replays the log in memory; everything that had returned must be there, with its content

Each call is announced in the log ("> ...") before it starts and acknowledged ("<") after it returned; the log lies on the
host, so it survives the machine. The one call that was announced but not acknowledged may have happened, or not.
"""
import os
import random
import sys


def content(seed, key, size):
    # Whole words, so that a shorter content is the beginning of a longer one.
    return random.Random(f"{seed} {key}").randbytes((size + 3) // 4 * 4)[:size]


class Model:
    """name -> inode key; key -> size. Directories are names with size None."""

    def __init__(self):
        self.names, self.size = {}, {}

    def copy(self):
        other = Model()
        other.names, other.size = dict(self.names), dict(self.size)
        return other

    def apply(self, op):
        kind, *a = op
        if kind == "create":
            self.names[a[0]] = a[0]
            self.size[a[0]] = int(a[1])
        elif kind == "mkdir":
            self.names[a[0]] = None
        elif kind == "rename":
            self.names[a[1]] = self.names.pop(a[0])
        elif kind == "link":
            self.names[a[1]] = self.names[a[0]]
        elif kind in ("unlink", "rmdir"):
            del self.names[a[0]]
        elif kind == "truncate":
            self.size[self.names[a[0]]] = min(int(a[1]), self.size[self.names[a[0]]])


def choose(rnd, model, n):
    files = [k for k, v in model.names.items() if v is not None]
    dirs = [k for k, v in model.names.items() if v is None]
    where = f"{rnd.choice(dirs)}/" if dirs and rnd.random() < 0.7 else ""
    dice = rnd.random()
    if dice < 0.45 or len(files) < 10:
        return ("create", f"{where}f{n}", str(rnd.choice((0, 10, 1000, 4096, 5000, 20000, 70000))))
    if dice < 0.50 and len(dirs) < 40:
        return ("mkdir", f"d{n}")
    if dice < 0.65:
        return ("rename", rnd.choice(files), rnd.choice(files) if rnd.random() < 0.4 else f"{where}r{n}")
    if dice < 0.72:
        return ("link", rnd.choice(files), f"{where}l{n}")
    if dice < 0.80:
        name = rnd.choice(files)
        return ("truncate", name, str(rnd.randrange(model.size[model.names[name]] + 1)))
    return ("unlink", rnd.choice(files))


def run(op, base, seed):
    kind, *a = op
    p = [os.path.join(base, x) for x in a]
    if kind == "create":
        fd = os.open(p[0], os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        data = content(seed, a[0], int(a[1]))
        if data:
            assert os.write(fd, data) == len(data)
        os.close(fd)
    elif kind == "mkdir":
        os.mkdir(p[0])
    elif kind == "rename":
        os.rename(p[0], p[1])
    elif kind == "link":
        os.link(p[0], p[1])
    elif kind == "unlink":
        os.unlink(p[0])
    elif kind == "truncate":
        os.truncate(p[0], int(a[1]))


def storm(base, log, seed):
    rnd, model = random.Random(seed), Model()
    os.makedirs(base)
    out = os.open(log, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644)
    n = n_done = 0
    while True:
        n += 1
        op = choose(rnd, model, n)
        # Two names of one file renamed onto each other is a call that does nothing.
        if op[0] == "rename" and model.names[op[1]] == model.names.get(op[2], ""):
            continue
        # One write acknowledges the call before and announces this one.
        os.write(out, f"{'<' if n_done else ''}\n> {' '.join(op)}\n".encode())
        run(op, base, seed)
        model.apply(op)
        n_done += 1


def read_log(log):
    done, open_call = [], None
    with open(log, "rb") as f:
        lines = f.read().decode().split("\n")
    for line in lines[:-1]:  # what follows the last newline was cut off
        if line.startswith("> "):
            open_call = tuple(line[2:].split(" "))
        elif line == "<" and open_call:
            done.append(open_call)
            open_call = None
    return done, open_call


def differences(base, model, seed, cut=None):
    """What the directory has that the model does not allow. cut: (name, full size) of a file whose write was cut short."""
    out = []
    found = {}
    for d, dirs, names in os.walk(base):
        for n in dirs + names:
            p = os.path.join(d, n)
            found[os.path.relpath(p, base)] = p
    out += [f"missing: {n}" for n in model.names if n not in found]
    out += [f"nobody made: {n}" for n in found if n not in model.names]
    whole = {}
    for n, key in model.names.items():
        if n not in found:
            continue
        if (key is None) != os.path.isdir(found[n]):
            out.append(f"wrong kind: {n}")
            continue
        if key is None:
            continue
        with open(found[n], "rb") as f:
            data = f.read()
        original = whole.get(key) or whole.setdefault(key, content(seed, key, 70000))
        sizes = range(model.size[key] + 1) if cut == key else (model.size[key],)
        if len(data) not in sizes or data != original[:len(data)]:
            out.append(f"wrong content: {n} ({len(data)} bytes, wanted {model.size[key]})")
        links = sum(1 for k in model.names.values() if k == key)
        if os.stat(found[n]).st_nlink != links:
            out.append(f"wrong link count: {n} ({os.stat(found[n]).st_nlink}, wanted {links})")
    return out


def verify(base, log, seed):
    done, open_call = read_log(log)
    model = Model()
    for op in done:
        model.apply(op)
    allowed = [(model, None)]
    if open_call:
        after = model.copy()
        after.apply(open_call)
        # A create is an open and a write: the file may be there with a part of its bytes.
        allowed.append((after, open_call[1] if open_call[0] == "create" else None))
    found = [differences(base, m, seed, cut) for m, cut in allowed]
    if all(found):
        print(f"{base}: {len(done)} calls had returned; cut short: {open_call}")
        for d in min(found, key=len)[:20]:
            print("   ", d)
        sys.exit(1)
    files = sum(1 for v in model.names.values() if v is not None)
    print(f"{len(done)} {files} {' '.join(open_call) if open_call else '-'}")


if __name__ == "__main__":
    {"storm": storm, "verify": verify}[sys.argv[1]](*sys.argv[2:])
