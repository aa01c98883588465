"""The programs that are compared, each behind the same few calls."""

import json
import os
import pathlib
import subprocess
import tempfile
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
        self.program = command
        self.compute = ["--json", "--quiet", "--threads", str(threads)]
        self.command = [command, "bench", *self.compute]
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

    def prefer(self, model, pairs, rank):
        """Seconds of each step but the first of DPO on pairs of ids, one a step, and those of the whole command: the reference and every file besides."""
        with tempfile.TemporaryDirectory() as folder:
            data, run = pathlib.Path(folder, "pairs.jsonl"), pathlib.Path(folder, "run")
            data.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
            longest = max(len(pair["prompt_ids"]) + len(pair[side]) for pair in pairs for side in ("chosen_ids", "rejected_ids"))
            arguments = ["--model", model, "--data", str(data), "--out", str(run), "--rank", str(rank), "--max-length", str(longest)]
            arguments += ["--batch-size", "1", "--gradient-accumulation", "1", "--steps", str(len(pairs)), "--log-every", "1"]
            began = time.perf_counter()
            last = self._json([self.program, "prefer", "--method", "dpo", *self.compute, *self.more, *arguments])
            whole = time.perf_counter() - began - SETTLE
            lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
            until = [line["seconds"] for line in lines if "loss" in line]
            steps = [b - a for a, b in zip(until, until[1:])]
            return {"seconds": steps, "whole": whole, "planned_bytes": last["planned_bytes"], "measured_bytes": last["measured_bytes"]}

    def _json(self, command):
        time.sleep(SETTLE)
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode != 0:
            raise Failed(ran.stderr.strip())
        return json.loads(ran.stdout)
