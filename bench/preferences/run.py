#!/usr/bin/env python3
"""Whether held-out preference accuracy rises: every method, and a reward model, on every preference data set of a folder, with one small model.

    bench/preferences/run.py --attune target/release/attune --model stories260K.gguf --data FOLDER [--set FILE…] [--only METHOD…] [--threads N]

FOLDER holds preference data in any form that `attune prefer` reads; a fifth of each set (three tenths of a very small one) is held out. Prints a Markdown
table: accuracy, margin and loss on held-out data before the first update and of the adapter that was kept, and what was planned and measured in memory.
Before the first update, methods with a reference give every answer the reward 0, and a new reward model the score 0: no pair is ordered, which is shown as "even".
Methods without a reference begin with what the model likes already. RESULTS.md beside this file has what was seen.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

# Learning rates and weights for a model of some hundred thousand parameters. Methods without a reference have to overturn what the model likes
# already, long or short answers above all, and need more of both.
PAIRS = {
    "dpo": ["--learning-rate", "1e-3"],
    "ipo": ["--learning-rate", "1e-3"],
    "hinge": ["--learning-rate", "1e-3"],
    "kto": ["--learning-rate", "1e-3"],
    "plackett_luce": ["--learning-rate", "1e-3"],
    "simpo": ["--learning-rate", "2e-3", "--beta", "10", "--simpo-gamma", "1"],
    "orpo": ["--learning-rate", "3e-3", "--beta", "5"],
    "cpo": ["--learning-rate", "3e-3", "--beta", "0.5", "--cpo-alpha", "0.1"],
}
REWARD = {"reward": ["--learning-rate", "1e-3"]}
RATINGS = {name: ["--learning-rate", "1e-3"] for name in ("kto", "apo_zero_unpaired")}
STEPS, EVALUATIONS, LENGTH = 60, 3, 256


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attune", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, type=pathlib.Path)
    parser.add_argument("--threads", default="0")
    parser.add_argument("--only", action="append", help="a method, or reward")
    parser.add_argument("--set", action="append", help="a data set's file name")
    options = parser.parse_args()
    print("| data | method | accuracy | margin | loss | planned MiB | measured |")
    print("|---|---|---:|---:|---:|---:|---:|")
    failed = 0
    for data in sorted(path for path in options.data.iterdir() if path.suffix in (".json", ".jsonl")):
        if options.set and data.name not in options.set:
            continue
        checked = json.loads(attune(options, "data", "check", str(data), "--json"))
        for method, flags in (RATINGS if "rating" in str(checked["format"]) else PAIRS | REWARD).items():
            if not options.only or method in options.only:
                failed += not measured(options, data, checked["counts"]["records"], method, flags)
    return 1 if failed else 0


def measured(options, data, records, method, flags):
    """One row; whether it could be measured."""
    with tempfile.TemporaryDirectory() as folder:
        run = pathlib.Path(folder, "run")
        flags = [*flags, "--eval-split", "0.2" if records >= 50 else "0.3", "--steps", str(STEPS), "--eval-every", str(STEPS // EVALUATIONS)]
        flags += ["--max-length", str(LENGTH), "--threads", options.threads]
        try:
            command = ["reward", "train"] if method == "reward" else ["prefer", "--method", method]
            last = attune(options, *command, "--model", options.model, "--data", str(data), "--out", str(run), *flags, "--json")
        except subprocess.CalledProcessError as error:
            print(f"| {data.name} | {method} | failed: {error.stderr.strip().splitlines()[-1]} | | | | |")
            return False
        last = json.loads(last.splitlines()[-1])
        lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    evals = [line for line in lines if "eval_loss" in line]
    kept = min(evals, key=lambda line: line["eval_loss"])
    number = lambda line, *keys: next((line[key] for key in keys if key in line), float("nan"))
    accuracy = lambda line: number(line, "eval_rewards/accuracies", "eval_accuracy")
    margin = lambda line: number(line, "eval_rewards/margins", "eval_margin")
    before = "even" if margin(evals[0]) == 0 else f"{accuracy(evals[0]):.3f}"
    cells = [f"{before} → {accuracy(kept):.3f}", f"{margin(evals[0]):.3g} → {margin(kept):.3g}", f"{evals[0]['eval_loss']:.4g} → {kept['eval_loss']:.4g}"]
    memory = [f"{last[key] / (1 << 20):.1f}" for key in ("planned_bytes", "measured_bytes")]
    print("| " + " | ".join([data.name, method, *cells, *memory]) + " |", flush=True)
    return True


def attune(options, *arguments):
    return subprocess.run([options.attune, *arguments, "--quiet"], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
