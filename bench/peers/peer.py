"""The programs that are compared, each behind the same few calls."""

import json
import os
import pathlib
import subprocess
import time

# Threads of the program that was asked before go on turning for a moment until they sleep.
SETTLE = 0.3

HERE = pathlib.Path(__file__).parent


class Failed(Exception):
    """A program did not do what it was asked; the message is its own."""


class Worker:
    """A peer in a process of its own, which answers one request at a time and computes nothing in between."""

    def __init__(self, python, script, threads):
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads), PYTHONDONTWRITEBYTECODE="1", TOKENIZERS_PARALLELISM="false")
        command = [python, str(HERE / script)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
        )

    def ask(self, what, **more):
        time.sleep(SETTLE)
        self.process.stdin.write(json.dumps({"do": what, **more}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"it ended with status {self.process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Attune:
    """The command, run once for each measurement."""

    def __init__(self, command, threads, precision):
        self.command = [command, "bench", "--json", "--quiet", "--threads", str(threads)]
        self.more = ["--precision", precision] if precision else []

    def write(self, cache, shape, kind):
        """The path of a shape's file."""
        arguments = ["--shape", shape, "--type", kind, "--cache", str(cache), "--write-only"]
        return self._json(self.command + arguments)["model"]

    def bench(self, model, repeat=1, prefill=0, decode=0, train_tokens=0, rank=8, first_token=False, limits=False, context=2048):
        arguments = ["--model", model, "--repeat", str(repeat), "--prefill", str(prefill), "--decode", str(decode)]
        arguments += ["--train-tokens", str(train_tokens), "--rank", str(rank), "--context", str(context)]
        arguments += [] if first_token else ["--no-first-token"]
        arguments += [] if limits else ["--no-limits"]
        return self._json(self.command + self.more + arguments)

    def _json(self, command):
        time.sleep(SETTLE)
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode != 0:
            raise Failed(ran.stderr.strip())
        return json.loads(ran.stdout)
