"""What every peer's process does: answer one JSON line with another until standard input ends.

A peer is a process of its own, so that its memory is its own, and waits without computing while it is not asked.
"""

import json
import resource
import sys


def serve(handlers):
    """Answers `{"do": name, …}` with what the handler of that name returns."""
    out = sys.stdout
    # Whatever a library prints must not stand among the answers.
    sys.stdout = sys.stderr
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = handlers[request.pop("do")](**request)
        except Exception as error:  # The one who asks decides what an error means.
            answer = {"error": f"{type(error).__name__}: {error}"}
        out.write(json.dumps(answer) + "\n")
        out.flush()


def resident():
    """Bytes that are resident now."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS:"))


def forget_peak():
    """Begins the watch for the peak anew."""
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")


def peak():
    """The most bytes that were resident since `forget_peak`."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
