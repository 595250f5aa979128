"""table.py FOLDER FILESYSTEM...: the figures in FOLDER/FILESYSTEM as one table, with what Ochre's must and should be."""
import sys

# instructions, durable on return: (must, goal)
LIMITS = {
    "create": (28000, 21000), "unlink-empty": (24000, 17000), "rename": (32000, 23000), "mkdir": (30000, 21000), "rmdir": (26000, 17000),
    "create+write16k+fsync": (60000, 42000), "unlink-16k": (30000, 22000), "append4k": (14000, 8500), "append1000+fsync": (10000, 7000),
    "pwrite4k-overwrite": (3500, 2900), "pwrite4k+fdatasync": (4500, 3400), "pread4k": (6000, 5200), "pread64": (2000, 1600),
    "fault-write-4k-mixed": (9000, 5500), "fault-write-4k-mixed-SYNC": (9000, 5500), "fault-write-written-2m": (5300, 4500),
    "fallocate-64m": (30000, 12000), "punch4k": (18000, 11000), "truncate-64m": (1000000, 300000),
}

folder, *systems = sys.argv[1:]
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
