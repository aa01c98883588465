"""Quantised bases made by llama.cpp's own quantiser: Attune at --precision f32 equals torch on the decoded weights."""

import copy

import models
from gguf_files import load_dequantised, quantise, write_adapter, write_base
from programs import LlamaCpp, with_peft, with_torch

KINDS = ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K"]
NEAR = 5e-4
# llama.cpp rounds activations to 8 bits (to 16 for F16 and BF16).
LLAMA_MAX, LLAMA_MEAN = 0.6, 0.08


def run(report, folder, attune, oracle, _shared):
    for seed, (name, config) in enumerate(models.wide_configs().items()):
        report.section(f"Quantised {name}")
        place = folder / name.replace(" ", "-")
        place.mkdir(exist_ok=True)
        model, data = models.build(config, seed + 50), models.examples(seed)
        write_base(model, place / "base.gguf")
        models.adapt(model, place / "peft", 4, 8, models.ALL_MODULES, seed)
        write_adapter(config, place / "peft", place / "reference.gguf")
        exact = with_torch(model, data)
        for kind in KINDS:
            with report.attempt(f"{name}, {kind}"):
                check_kind(report, place, attune, oracle, f"{name}, {kind}", kind, copy.deepcopy(model), data, exact)


def check_kind(report, place, attune, oracle, label, kind, model, data, exact):
    base = place / f"{kind}.gguf"
    quantise(place / "base.gguf", base, kind)
    load_dequantised(model, base)
    off, on = with_torch(model, data), with_peft(model, place / "peft", data)
    report.far(f"{label}: quantising changed the model", off, exact, 1e-4)
    llama = LlamaCpp(base)
    adapter = place / "reference.gguf"
    for what, expected, use in [("base", off, None), ("adapter", on, adapter)]:
        report.near(f"{label}: llama.cpp, {what}", llama.logprobs(data, use), expected, LLAMA_MAX, LLAMA_MEAN)
        if oracle:
            report.near(f"{label}: the oracle, {what}", oracle.logprobs(base, data, use), expected, NEAR)
        if attune:
            precise = attune.with_flags("--precision", "f32")
            report.near(f"{label}: attune, {what}", precise.logprobs(base, data, use), expected, NEAR)
            report.near(f"{label}: attune as it comes, {what}", attune.logprobs(base, data, use), expected, LLAMA_MAX, LLAMA_MEAN)
    llama.close()
