"""Attune against llama.cpp (answering) and PyTorch with PEFT (training): in turns, on the same files, threads and tokens. See run.sh.

Each measurement is made once a round, the programs one after the other, so that whatever else the machine does in the meantime meets all of
them. A ratio is that of the medians. Status 1 where a program failed; a ratio that is not reached is a result, not a failure.
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import sys
import time

import tables
from peer import Attune, Failed, Worker

SHAPES = ["smollm2-135m", "qwen2.5-0.5b", "llama3.2-1b"]
TYPES = ["q4_0", "q4_k", "q8_0"]
TRAINED = ["smollm2-135m", "qwen2.5-0.5b"]
LENGTHS = [256, 512]
OPENED = ("llama3.2-1b", "q4_0")
PARTS = ["answering", "opening", "training", "preferring"]
PROMPT, ANSWER, CONTEXT = 512, 64, 2048
# Training steps of one program in one round.
STEPS = 2
# A pair of answers: tokens of each, and of the prompt that they share.
PAIR, SHARED = 256, 128
# What the peers say they are.
VERSIONS = {}


def main():
    options = arguments()
    results = {"settings": {**settings(options), "seconds": 0, "stolen": 0.0}, "answering": [], "opening": [], "training": [], "preferring": []}
    attune = Attune(options.attune, options.threads, options.precision)
    began, stolen = time.time(), ticks()
    try:
        for part, measured in work(attune, options):
            results[part] += measured
            results["settings"]["seconds"] = round(time.time() - began)
            results["settings"]["stolen"] = share(stolen, ticks())
            keep(options, results)
    except KeyboardInterrupt:
        print("interrupted: the results so far follow", file=sys.stderr)
    print(tables.page(results))
    failed = [row for part in PARTS for row in results[part] if "failed" in row]
    for row in failed:
        print(f"failed: {row}", file=sys.stderr)
    return 1 if failed else 0


def work(attune, options):
    """Every measurement that was asked for, when it is done: its part of the results, and its rows."""
    if "answering" in options.only:
        for shape in options.shapes:
            for kind in options.types:
                yield "answering", [answering(attune, options, shape, kind)]
    if "opening" in options.only:
        yield "opening", [opening(attune, options, *OPENED)]
    if "training" in options.only:
        for shape in options.trained:
            yield "training", training(attune, options, shape)
    if "preferring" in options.only:
        yield "preferring", [preferring(attune, options, options.trained[0])]


def keep(options, results):
    """Writes what there is so far, so that little is lost if the run is."""
    if options.out:
        pathlib.Path(options.out).write_text(tables.page(results))
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(results, indent=1) + "\n")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attune", required=True, help="the command")
    parser.add_argument("--llama-python", required=True, help="a Python that has llama-cpp-python")
    parser.add_argument("--torch-python", required=True, help="a Python that has torch, transformers and peft")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, help="measurements of each [default: 3, with --quick 2]")
    parser.add_argument("--quick", action="store_true", help="the smallest model in two types, and its training at 256 tokens")
    parser.add_argument("--only", action="append", choices=PARTS)
    parser.add_argument("--shapes", type=names, help=f"[default: {','.join(SHAPES)}]")
    parser.add_argument("--types", type=names, help=f"[default: {','.join(TYPES)}]")
    parser.add_argument("--trained", type=names, help=f"[default: {','.join(TRAINED)}]")
    parser.add_argument("--lengths", type=lambda text: [int(n) for n in text.split(",")], help="tokens of a training step [default: 256,512]")
    parser.add_argument("--train-type", default="q4_0", help="the type of the base that Attune trains on [default: q4_0]")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--precision", help="Attune's [default: its own default]")
    parser.add_argument("--cache", default=cache(), help="where model files are kept")
    parser.add_argument("--out", help="also write the tables to this file")
    parser.add_argument("--json", help="also write every measurement to this file")
    options = parser.parse_args()
    quick = options.quick
    options.rounds = options.rounds or (2 if quick else 3)
    options.shapes = options.shapes or (SHAPES[:1] if quick else SHAPES)
    options.types = options.types or (["q4_0", "q8_0"] if quick else TYPES)
    options.trained = options.trained or (TRAINED[:1] if quick else TRAINED)
    options.lengths = options.lengths or (LENGTHS[:1] if quick else LENGTHS)
    options.only = options.only or PARTS
    return options


def names(text):
    return text.split(",")


def cache():
    """Where `attune bench` keeps its files, too."""
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "attune"


def settings(options):
    cpu, memory = "unknown", 0
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    for line in open("/proc/meminfo"):
        if line.startswith("MemTotal"):
            memory = int(line.split()[1]) * 1024
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_bytes": memory,
        "threads": options.threads,
        "rounds": options.rounds,
        "rank": options.rank,
        "prompt": PROMPT,
        "answer": ANSWER,
        "train_type": options.train_type,
        "command": "bench/peers/run.sh " + " ".join(asked()),
        "versions": VERSIONS,
    }


def asked():
    """The options that decide what is measured: without the programs, and without where files lie."""
    rest, kept = iter(sys.argv[1:]), []
    for word in rest:
        if word in ("--attune", "--llama-python", "--torch-python", "--cache", "--out", "--json"):
            next(rest, None)
        else:
            kept.append(word)
    return kept


def ticks():
    """Processor time so far: that which other guests of the same host took, and all of it."""
    with open("/proc/stat") as stat:
        counts = [int(n) for n in stat.readline().split()[1:9]]
    return counts[7], sum(counts)


def share(before, after):
    return (after[0] - before[0]) / max(after[1] - before[1], 1)


def answering(attune, options, shape, kind):
    """Prefill and decoding of one file."""
    row = {"shape": shape, "type": kind, "attune": [], "peer": []}
    note(f"answering: {shape} {kind}")
    peer = None
    try:
        model = attune.write(options.cache, shape, kind)
        peer = Worker(options.llama_python, "llama_worker.py", options.threads)
        row["peer_loaded"] = peer.ask("load", path=model, threads=options.threads, context=CONTEXT)
        VERSIONS["llama-cpp-python"] = row["peer_loaded"]["version"]
        peer.ask("run", prefill=PROMPT, decode=8)
        for turn in range(options.rounds):
            last = turn + 1 == options.rounds
            row["attune"].append(attune.bench(model, prefill=PROMPT, decode=ANSWER, context=CONTEXT, limits=last))
            row["peer"].append(peer.ask("run", prefill=PROMPT, decode=ANSWER))
        row["prefill"] = pair([a["prefill_tps"] for a in row["attune"]], [PROMPT / p["prefill"][0] for p in row["peer"]])
        row["decode"] = pair([a["decode_tps"] for a in row["attune"]], [ANSWER / p["decode"][0] for p in row["peer"]])
        note(f"  ratios: prefill {row['prefill']['ratio']:.2f}, decode {row['decode']['ratio']:.2f}")
    except Failed as error:
        row["failed"] = str(error)
    finally:
        if peer:
            peer.close()
    return row


def opening(attune, options, shape, kind):
    """From opening a file to the first token."""
    row = {"shape": shape, "type": kind}
    note(f"opening: {shape} {kind}")
    peer = None
    try:
        model = attune.write(options.cache, shape, kind)
        peer = Worker(options.llama_python, "llama_worker.py", options.threads)
        peer.ask("load", path=model, threads=options.threads, context=CONTEXT)
        mine, other = [], []
        for _ in range(options.rounds):
            mine.append(attune.bench(model, first_token=True, context=CONTEXT)["first_token_ms"])
            other += [s * 1e3 for s in peer.ask("first_token")["seconds"]]
        row["first_token"] = pair(mine, other)
        note(f"  ratio: {row['first_token']['ratio']:.2f}")
    except Failed as error:
        row["failed"] = str(error)
    finally:
        if peer:
            peer.close()
    return row


def training(attune, options, shape):
    """A step of supervised tuning, at every length: Attune, PyTorch in f32, PyTorch in bf16."""
    rows, peers, loaded = [], {}, {}
    try:
        model = attune.write(options.cache, shape, options.train_type)
        for dtype in ["float32", "bfloat16"]:
            peers[dtype] = Worker(options.torch_python, "torch_worker.py", options.threads)
            loaded[dtype] = peers[dtype].ask("load", shape=shape, dtype=dtype, rank=options.rank, threads=options.threads)
            VERSIONS.update(loaded[dtype]["versions"])
        for tokens in options.lengths:
            rows.append({"shape": shape, "tokens": tokens, "attune": [], "float32": [], "bfloat16": []})
            row = rows[-1]
            note(f"training: {shape}, {tokens} tokens")
            for dtype, peer in peers.items():
                # The first steps of a length fill the allocator's pools.
                peer.ask("step", tokens=tokens, repeat=2)
            for turn in range(options.rounds):
                last = turn + 1 == options.rounds
                row["attune"].append(attune.bench(model, repeat=STEPS, train_tokens=tokens, rank=options.rank, limits=last))
                for dtype, peer in peers.items():
                    row[dtype].append(peer.ask("step", tokens=tokens, repeat=STEPS))
            speeds = {dtype: [tokens / s["seconds"] for r in row[dtype] for s in r["steps"]] for dtype in peers}
            row["faster"] = max(speeds, key=lambda dtype: statistics.median(speeds[dtype]))
            mine = [a["train_tps"] for a in row["attune"]]
            row["speed"] = pair(mine, speeds[row["faster"]])
            row["speeds"] = {dtype: spread(values) for dtype, values in speeds.items()}
            memory = {dtype: max(r["peak_less_weights"] for r in row[dtype]) for dtype in peers}
            note(f"  ratio: {row['speed']['ratio']:.2f}")
            row["memory"] = {"attune": max(a["train_peak_bytes"] for a in row["attune"]), **memory}
            if not options.quick:
                row["trl"] = trl(peers[row["faster"]], tokens)
            row["libraries"] = loaded[row["faster"]]["libraries_bytes"]
    except Failed as error:
        rows.append({"shape": shape, "failed": str(error)})
    finally:
        for peer in peers.values():
            peer.close()
    return rows


def preferring(attune, options, shape):
    """A step of DPO on a pair of answers to one prompt: Attune, TRL's trainer in f32 and bf16, computing its reference as it goes and beforehand."""
    row = {"shape": shape, "tokens": 2 * PAIR, "shared": SHARED, "attune": [], "trl": {}}
    note(f"preferring: {shape}, pairs of 2 x {PAIR} tokens that share {SHARED}")
    peers = {}
    try:
        model = attune.write(options.cache, shape, options.train_type)
        for dtype in ["float32", "bfloat16"]:
            peers[dtype] = Worker(options.torch_python, "torch_worker.py", options.threads)
            VERSIONS.update(peers[dtype].ask("load", shape=shape, dtype=dtype, rank=options.rank, threads=options.threads)["versions"])
        for turn in range(options.rounds):
            row["attune"].append(attune.prefer(model, list(pairs(turn, 2 * STEPS)), options.rank))
            for dtype, peer in peers.items():
                for precompute in (False, True):
                    answer = peer.ask("trl_dpo", tokens=PAIR, prompt=SHARED, repeat=STEPS, precompute=precompute)
                    VERSIONS["trl"] = answer["version"]
                    row["trl"].setdefault(f"{dtype}, reference {'before' if precompute else 'in the step'}", []).extend(answer["seconds"])
        row["speeds"] = {name: spread([2 * PAIR / s for s in seconds]) for name, seconds in row["trl"].items()}
        best = lambda end: max((name for name in row["speeds"] if name.endswith(end)), key=lambda name: row["speeds"][name]["median"])
        steps = [2 * PAIR / s for turn in row["attune"] for s in turn["seconds"]]
        whole = [2 * PAIR * 2 * STEPS / turn["whole"] for turn in row["attune"]]
        for what, mine, name in [("step", steps, best("before")), ("whole", whole, best("in the step"))]:
            row[what] = {"peer_is": name, **pair(mine, [2 * PAIR / s for s in row["trl"][name]])}
        note(f"  ratios: step {row['step']['ratio']:.2f}, whole command {row['whole']['ratio']:.2f}")
    except Failed as error:
        row["failed"] = str(error)
    finally:
        for peer in peers.values():
            peer.close()
    return row


def pairs(seed, count):
    """Pairs of random ids that share their prompt."""
    random_ids = random.Random(seed)
    ids = lambda n: [random_ids.randrange(1, 32000) for _ in range(n)]
    for _ in range(count):
        yield {"prompt_ids": ids(SHARED), "chosen_ids": ids(PAIR - SHARED), "rejected_ids": ids(PAIR - SHARED)}


def trl(peer, tokens):
    """The same step by TRL's trainer, for comparison; nothing where TRL is not installed."""
    try:
        answer = peer.ask("trl", tokens=tokens, repeat=STEPS)
    except Failed as error:
        note(f"TRL: {error}")
        return None
    VERSIONS["trl"] = answer["version"]
    return spread([tokens / s for s in answer["seconds"]])


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def pair(mine, other):
    """Both spreads, and how many times the other's median ours is."""
    return {"attune": spread(mine), "peer": spread(other), "ratio": statistics.median(mine) / statistics.median(other)}


def note(text):
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
