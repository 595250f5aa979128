"""compare.py snapshot DIR FILE | check DIR FILE [EXPRESSION-FILE]: every byte and attribute of a tree.

A snapshot holds for each path its kind, mode, owner, mtime, link target or size and SHA-256.
"""
import hashlib
import json
import os
import stat
import sys


def look(top):
    out = {}
    for d, dirs, names in os.walk(top):
        for n in dirs + names:
            p = os.path.join(d, n)
            st = os.lstat(p)
            row = [stat.S_IFMT(st.st_mode), stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid]
            if stat.S_ISLNK(st.st_mode):
                row += [os.readlink(p)]
            elif stat.S_ISREG(st.st_mode):
                with open(p, "rb") as f:
                    row += [st.st_mtime_ns, st.st_size, hashlib.sha256(f.read()).hexdigest()]
            out[os.path.relpath(p, top)] = row
    return out


if __name__ == "__main__":
    what, top, store = sys.argv[1:4]
    now = look(top)
    if what == "snapshot":
        with open(store, "w") as f:
            json.dump(now, f)
    else:
        with open(store) as f:
            want = json.load(f)
        bad = [p for p in sorted(set(now) | set(want)) if now.get(p) != want.get(p)]
        for p in bad[:10]:
            print(f"differs: {p}: {now.get(p)} instead of {want.get(p)}")
        if bad:
            sys.exit(f"{len(bad)} of {len(want)} differ")
    files = [r for r in now.values() if len(r) == 7]
    print(len(files), sum(r[5] for r in files))
