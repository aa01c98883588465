"""Adapters of two processors: compare.py FOLDER FOLDER. They may differ by what the order of sums makes of them, and by no more."""

import math
import pathlib
import struct
import sys

# Relative to the norm of all parameters; seen: 1e-6.
BOUND = 1e-5


def parameters(path):
    """The parameters of a native adapter file; its format is in docs/adapter-format.md."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<I", data, 12)
    start = (20 + length + 63) // 64 * 64
    count = (len(data) - start) // 4
    return struct.unpack_from(f"<{count}f", data, start)


def main():
    first, second = (pathlib.Path(folder) for folder in sys.argv[1:])
    names = sorted(path.name for path in first.glob("*.attune"))
    if not names or names != sorted(path.name for path in second.glob("*.attune")):
        sys.exit(f"expected the same adapters in both folders, found {names} in {first}")
    for name in names:
        a, b = parameters(first / name), parameters(second / name)
        if len(a) != len(b):
            sys.exit(f"{name}: {len(a)} parameters, and {len(b)}")
        norm = math.sqrt(sum(x * x for x in a))
        difference = math.dist(a, b) / norm
        print(f"{name}: {len(a)} parameters, relative difference {difference:.1e}")
        if not difference <= BOUND:
            sys.exit(f"{name}: expected a relative difference of at most {BOUND:.0e}")


main()
