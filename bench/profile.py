"""profile.py BUILD/bench/out/FILESYSTEM ROW...: where the instructions of these rows went, from the last run with PROFILE=.

For each row the tree of calls (instructions per operation: of a function with all that it calls, of it alone; calls per
operation), then the functions by what they cost alone, where what the compiler inlined counts as itself.
The first file system of a run alone is shown. Options: LEAST=50 hides what is below so many instructions.
"""
import bisect
import collections
import os
import re
import subprocess
import sys

out, *wanted = sys.argv[1:]
folder = os.path.dirname(out)
bench = os.path.dirname(folder)
LEAST = float(os.environ.get("LEAST", 50))
KERNEL = 1 << 63


class Symbols:
    """The running kernel's functions by address, and those that were inlined into the module's."""

    def __init__(self):
        table = []
        with open(f"{folder}/symbols") as f:
            for line in f:
                address, kind, name, *_ = line.split()
                if kind in "tT":
                    table.append((int(address, 16), name))
        table.sort()
        self.at = [a for a, _ in table]
        self.names = [n for _, n in table]
        self.text = 0
        if os.path.exists(f"{folder}/text"):
            with open(f"{folder}/text") as f:
                self.text = int(f.read(), 16)
        self.short = {}
        self.inlined = {}

    def name(self, address):
        if address < KERNEL:
            return "(the process)"
        i = bisect.bisect_right(self.at, address) - 1
        return self.demangled(self.names[i]) if i >= 0 else "?"

    def demangled(self, name):
        if not name.startswith("_R"):
            return name
        if name not in self.short:
            text = subprocess.run(["c++filt", name], capture_output=True, text=True).stdout.strip()
            self.short[name] = shorten(text)
        return self.short[name]

    def lookup(self, addresses):
        """Asks for the inlined functions at addresses of the module."""
        module = f"{bench}/../ochre.ko"
        inside = [a for a in addresses if self.text and 0 <= a - self.text < 1 << 24]
        if not inside:
            return
        ask = "\n".join(hex(a - self.text) for a in inside)
        command = ["addr2line", "-e", module, "-j", ".text", "-a", "-f", "-C"]
        lines = subprocess.run(command, input=ask, capture_output=True, text=True).stdout.split("\n")
        for line, name, place in zip(lines[::3], lines[1::3], lines[2::3]):
            place = re.sub(r":[0-9?]+( .*)?$", "", place)
            self.inlined[int(line, 16) + self.text] = f"{shorten(name)}  {os.path.relpath(place) if place[0] == '/' else place}"


def shorten(name):
    """The last two parts of a path, without type arguments."""
    before = None
    while name != before:
        before, name = name, re.sub(r"<[^<>]*>", "", name)
    return "::".join(name.split("::")[-2:])


def rows():
    """The rows of the file: name, operations, nodes, code."""
    with open(out) as f:
        names = [line.split()[0] for line in f]
    found = []
    with open(f"{bench}/counts.profile") as f:
        for line in f:
            kind, *words = line.split()
            if kind == "row":
                found.append((int(words[0]), {}, []))
            elif kind == "node":
                found[-1][1][int(words[0])] = (int(words[1]), int(words[2], 16), int(words[3]))
            else:
                found[-1][2].append((int(words[0]), int(words[1], 16), int(words[2])))
    return {name: row for name, row in zip(names, found)}


class Place:
    """A function where it was called from."""

    def __init__(self):
        self.own = self.calls = 0
        self.inner = collections.defaultdict(Place)

    def all(self):
        return self.own + sum(i.all() for i in self.inner.values())

    def show(self, name, count, depth):
        if self.all() / count < LEAST:
            return
        print(f"{self.all() / count:10.0f}{self.own / count:9.0f}{self.calls / count:8.2f}  {'  ' * depth}{name}")
        for n, place in sorted(self.inner.items(), key=lambda item: -item[1].all()):
            place.show(n, count, depth + 1)


def show(name, count, nodes, code, symbols):
    root = Place()
    places = {0: root}
    for number, (parent, entry, calls) in sorted(nodes.items()):
        if number:
            places[number] = places[parent].inner[symbols.name(entry)]
            places[number].calls += calls
    alone = collections.Counter()
    symbols.lookup({address for _, address, _ in code})
    for node, address, n in code:
        function = symbols.name(address)
        place = places[node]
        # What a function jumped to instead of calling it.
        if node and function != symbols.name(nodes[node][1]):
            place = place.inner[f"-> {function}"]
        place.own += n
        alone[symbols.inlined.get(address, function)] += n
    print(f"\n{name}: instructions per operation\n{'with calls':>10}{'alone':>9}{'calls':>8}")
    root.show("(the process)", count, 0)
    print(f"\n{name}: by what functions cost alone")
    for function, n in alone.most_common():
        if n / count >= LEAST / 2:
            print(f"{n / count:10.0f}  {function}")


def main():
    symbols = Symbols()
    all_rows = rows()
    for name in wanted:
        if name not in all_rows:
            sys.exit(f"no row {name}; there are: {' '.join(all_rows)}")
        show(name, *all_rows[name], symbols)


main()
