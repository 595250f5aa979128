# Lockdep has eyes for our locks: after a write, faults and removals its graph has the documented order, and nothing against it; a fault that takes i_rwsem shows there.
# test-build
# only: ochre
# last: the order in the graph is wrong after it, so that lockdep may complain of anybody
. "$(dirname "$0")/lib.sh"
[ -r /proc/lockdep ] || skip "this kernel has no lockdep (make debug-test)"
python3 - <<'PY'
from racing import *

def graph():
    """Class -> classes that were taken while it was held; named by address, since several have the same name."""
    names, after, held = {}, {}, None
    with open("/proc/lockdep") as f:
        for line in f:
            words = line.split()
            if line.startswith(" -> ["):
                address = line.split("[")[1].split("]")[0]
                names.setdefault(address, line.split("] ")[1].strip())
                after[held].add(address)
            elif len(words) > 2 and ": " in line and words[0] not in ("all", "the"):
                held = words[0]
                names[held] = line.split(": ")[-1].strip()
                after.setdefault(held, set())
    return names, after

def reached(after, start):
    seen, todo = set(), [start]
    while todo:
        for n in after.get(todo.pop(), ()):
            if n not in seen:
                seen.add(n)
                todo.append(n)
    return seen

def work(store):
    """A write with its buffer mapped from the file, faults, all kinds of removal, an eviction."""
    f = make("f", data=b"data" * (8 * PAGE // 4))
    os.ftruncate(f, 16 * PAGE)
    m = Map(f, 16 * PAGE)
    libc.pwrite.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long]
    equal(libc.pwrite(f, m.address + PAGE, PAGE, 8 * PAGE), PAGE, "a write with a mapped buffer")
    os.pread(f, PAGE, 0)  # (A copy to the user is what draws the line to mmap_lock; faults by a VMA's own lock draw none.)
    store(m)
    fallocate(f, PUNCH_HOLE | KEEP_SIZE, PAGE, PAGE)
    fallocate(f, COLLAPSE_RANGE, 2 * PAGE, PAGE)
    os.ftruncate(f, PAGE)
    m.close()
    os.unlink(path("f"))
    os.close(f)

ORDER = ("i_mutex_key", "mmap_lock", "sb_pagefaults", "mapping.invalidate_lock", "ochre_inode", "ochre_lane", "ochre_ag")

def the_graph(removed):
    work(lambda m: (m.write(9 * PAGE, b"new page"), m.write(0, b"an old one")))
    names, after = graph()
    known = [n for n in names.values() if "ochre" in n]
    for name in ORDER[4:]:
        check(name in known, f"lockdep does not know {name}: {known}")
    below = {n: reached(after, n) for n in names}
    core = next(n for n in names if names[n] == "ochre_inode")
    # Classes of other filesystems have the same names; ours come before our inode lock.
    ours = lambda name: [n for n in names if names[n] == name]  # (ochre_ag_load and ochre_ag_grow are others.)
    classes = [ours(name) if name.startswith("ochre") else [n for n in names if name in names[n] and core in below[n]] for name in ORDER]
    for i, first in enumerate(ORDER):
        for j in range(i + 1, len(ORDER)):
            down = any(b in below[a] for a in classes[i] for b in classes[j])
            # (One step: that no longer way leads back is what lockdep itself looks for, which knows how each was taken.)
            up = any(a in after[b] for a in classes[i] for b in classes[j])
            check(down, f"lockdep has not seen that {ORDER[j]} is taken under {first}")
            check(not up, f"lockdep has seen {first} under {ORDER[j]}")

run(the_graph)

def wrong_order(removed):
    """The same with faults that take i_rwsem: nobody waits for anybody here, but the order is wrong."""
    f = make("f", data=b"data" * (2 * PAGE // 4))
    with Map(f, 2 * PAGE) as m:
        # By the way that holds mmap_lock: a VMA's own lock is only tried, and lockdep draws no line to what is tried.
        m.advise(22, 0, PAGE)  # MADV_POPULATE_READ
        m.advise(23, PAGE, PAGE)  # MADV_POPULATE_WRITE
    names, after = graph()
    core = next(n for n in names if names[n] == "ochre_inode")
    below = {n: reached(after, n) for n in names}
    lines = [(names[a], names[b]) for a in names if "&mm->mmap_lock" in names[a] for b in after[a] if "i_mutex_key" in names[b] and core in below[b]]
    check(lines, "lockdep does not see i_rwsem taken in a fault: it is blind")

run(wrong_order, "no-rwsem-in-faults")
PY
proved "lockdep knows i_rwsem, mmap_lock, sb_pagefaults, invalidate_lock, inode, lane, AG lock in this order and never the other way round, and a fault that takes i_rwsem shows"
