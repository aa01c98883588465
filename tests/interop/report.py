"""What was checked, and whether it held."""

import contextlib

import numpy as np


class Report:
    def __init__(self):
        self.lines, self.failed, self.skipped = 0, [], []

    def section(self, title):
        print(f"\n{title}", flush=True)

    def near(self, what, found, expected, tolerance, mean_tolerance=None):
        """Largest (and, where a bound is given, mean) absolute difference within bounds."""
        worst, mean = difference(found, expected)
        good = worst <= tolerance and (mean_tolerance is None or mean <= mean_tolerance)
        self._line(good, what, f"max {worst:.1e} of {tolerance:.0e}, mean {mean:.1e}")

    def far(self, what, found, expected, least):
        """They must differ: a comparison that holds for anything shows nothing."""
        worst, _ = difference(found, expected)
        self._line(worst >= least, what, f"max {worst:.1e}, at least {least:.0e}")

    def true(self, what, good, detail=""):
        self._line(bool(good), what, detail)

    @contextlib.contextmanager
    def attempt(self, what):
        """A program that fails fails its check, and the others go on."""
        try:
            yield
        except Exception as error:
            self._line(False, what, f"{type(error).__name__}: {error}")

    def skip(self, what):
        self.skipped.append(what)
        print(f"  skipped  {what}", flush=True)

    def _line(self, good, what, detail):
        self.lines += 1
        if not good:
            self.failed.append(what)
        print(f"  {'ok    ' if good else 'FAILED'}  {what}: {detail}", flush=True)

    def finish(self):
        print(f"\n{self.lines} checks, {len(self.failed)} failed, {len(self.skipped)} skipped")
        for what in self.failed:
            print(f"  FAILED  {what}")
        return 1 if self.failed or not self.lines else 0


def difference(found, expected):
    """(largest, mean) absolute difference over all examples; shapes that differ, or a NaN, are infinitely far apart."""
    if [len(x) for x in found] != [len(x) for x in expected]:
        return float("inf"), float("inf")
    gaps = np.abs(np.concatenate([np.asarray(f, dtype=np.float64) - np.asarray(e, dtype=np.float64) for f, e in zip(found, expected)]))
    if not np.isfinite(gaps).all():
        return float("inf"), float("inf")
    return float(gaps.max()), float(gaps.mean())


def known_bad(report):
    """The comparison itself rejects what it must."""
    report.section("The comparison")
    good = [[-1.0, -2.0], [-3.0]]
    report.true("rejects a shifted value", difference([[-1.0, -2.1], [-3.0]], good)[0] > 0.05)
    report.true("rejects a missing value", difference([[-1.0], [-3.0]], good)[0] == float("inf"))
    report.true("rejects a NaN", difference([[-1.0, float("nan")], [-3.0]], good)[0] == float("inf"))
    report.true("accepts equality", difference(good, good)[0] == 0)
