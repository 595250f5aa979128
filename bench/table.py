"""table.py FOLDER COUNTS FILESYSTEM...: the figures in FOLDER/FILESYSTEM as one table, with what Ochre's must and should be; and
what the plugin counted meanwhile, a line of COUNTS at the begin and at the end of each row, as another."""
import sys

# instructions, durable on return: (must, goal)
LIMITS = {
    "create": (28000, 21000), "unlink-empty": (24000, 17000), "rename": (32000, 23000), "mkdir": (30000, 21000), "rmdir": (26000, 17000),
    "create+write16k+fsync": (60000, 42000), "unlink-16k": (30000, 22000), "append4k": (14000, 8500), "append1000+fsync": (10000, 7000),
    "pwrite4k-overwrite": (3500, 2900), "pwrite4k+fdatasync": (4500, 3400), "pread4k": (6000, 5200), "pread64": (2000, 1600),
    "fault-write-4k-mixed": (9000, 5500), "fault-write-4k-mixed-SYNC": (9000, 5500), "fault-write-written-2m": (5300, 4500),
    "fallocate-64m": (30000, 12000), "punch4k": (18000, 11000), "truncate-64m": (1000000, 300000),
}

# fences, durable on return: what a metadata call, and a write that publishes blocks, may take at most. The goal is one less.
FENCES = {
    "create": 2, "unlink-empty": 2, "rename": 2, "mkdir": 2, "rmdir": 2, "append4k": 3, "pwrite4k-overwrite": 2,
    "fault-write-written-2m": 0, "punch4k": 3,
}

folder, counts, *systems = sys.argv[1:]
table = {}
for s in systems:
    with open(f"{folder}/{s}") as f:
        table[s] = dict(line.split() for line in f)
rows = list(dict.fromkeys(r for s in systems for r in table[s]))
print(f"{'instructions per operation':28}" + "".join(f"{s:>12}" for s in systems) + f"{'must':>12}{'goal':>12}")
for r in rows:
    must, goal = LIMITS.get(r, ("", ""))
    mark = ""
    if must and r in table.get("ochre", {}):
        n = int(table["ochre"][r])
        mark = "  goal met" if n <= goal else "" if n <= must else "  over"
    print(f"{r:28}" + "".join(f"{table[s].get(r, ''):>12}" for s in systems) + f"{must:>12}{goal:>12}{mark}")

# The rows of all systems follow each other in the order of `systems`.
ends = []
with open(counts) as f:
    for line in f:
        kind, _, *words = line.split()
        if kind == "2":
            ends.append({name: int(value) for name, value in zip(words[::2], words[1::2])})
print()
print(f"{'per operation':28}" + "".join(f"{s:>30}" for s in systems) + f"{'fences must':>14}")
print(f"{'':28}" + "".join(f"{'fences':>10}{'lines':>9}{'bytes':>11}" for s in systems))
at = 0
sums = {}
for s in systems:
    for r in table[s]:
        sums[s, r] = ends[at]
        at += 1
assert at == len(ends), f"{len(ends)} rows were counted, {at} printed"
for r in rows:
    text, mark = f"{r:28}", ""
    for s in systems:
        if (s, r) not in sums:
            text += f"{'':30}"
            continue
        n = sums[s, r]
        per = lambda value: f"{value / n['of']:.2f}"
        text += f"{per(n['fences']):>10}{per(n['written-back'] + n['lines']):>9}{n['stored'] / n['of']:>11.0f}"
        if s == "ochre" and r in FENCES:
            # A checkpoint now and then fences too; it is spread over all operations.
            mark = f"{FENCES[r]:>14}" + ("  over" if n["fences"] / n["of"] > FENCES[r] + 0.1 else "")
    print(text + mark)
