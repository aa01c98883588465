"""Adapters go in and out: PEFT and llama.cpp give Attune's log-probabilities with Attune's files, and the other way round."""

import json
import shutil

import models
from gguf_files import write_adapter, write_base
from programs import LlamaCpp, with_peft, with_torch, write_data
from safetensors.numpy import load_file

# Log-probabilities of float32 programs that add in different orders; llama.cpp's GELU is a table of f16.
NEAR = 2e-4
NEAR_TABLE = 2e-2

# (name, modules, rank, alpha, rsLoRA, layers): what people tune.
ADAPTERS = [
    ("all", models.ALL_MODULES, 4, 8, False, None),
    ("q-v-top", ["q_proj", "v_proj"], 3, 6, False, [2]),
    ("rslora", models.ALL_MODULES, 4, 5, True, None),
]


def run(report, folder, attune, oracle, _shared):
    for seed, (name, config) in enumerate(models.configs().items()):
        report.section(f"Adapters on {name}")
        with report.attempt(name):
            check_model(report, folder / name, attune, oracle, name, config, seed)


def check_model(report, folder, attune, oracle, name, config, seed):
    folder.mkdir(exist_ok=True)
    model, data = models.build(config, seed), models.examples(seed)
    base = folder / "base.gguf"
    write_base(model, base)
    llama = LlamaCpp(base)
    llama_near = NEAR_TABLE if name.startswith("gemma") else NEAR
    off = with_torch(model, data)
    report.near(f"{name}: llama.cpp on the base", llama.logprobs(data), off, llama_near)
    if oracle:
        report.near(f"{name}: the oracle on the base", oracle.logprobs(base, data), off, NEAR)
    if attune:
        report.near(f"{name}: attune on the base", attune.logprobs(base, data), off, NEAR)
    for kind, modules, rank, alpha, rslora, layers in ADAPTERS:
        label = f"{name}, {kind}"
        given = folder / f"{kind}.peft"
        models.adapt(model, given, rank, alpha, modules, seed, rslora, layers)
        on = with_peft(model, given, data)
        report.far(f"{label}: the adapter matters", on, off, 0.05)
        reference = folder / f"{kind}.reference.gguf"
        write_adapter(config, given, reference)
        report.near(f"{label}: llama.cpp with the reference file", llama.logprobs(data, reference), on, llama_near)
        if config.model_type == "llama":
            wrong = folder / f"{kind}.unpermuted.gguf"
            write_adapter(config, given, wrong, permute=False)
            report.far(f"{label}: rows in PEFT's order are noticed", llama.logprobs(data, wrong), on, 0.02)
        if oracle:
            report.near(f"{label}: the oracle with the reference file", oracle.logprobs(base, data, reference), on, NEAR)
        if attune:
            with report.attempt(f"{label}: import"):
                imported(report, label, attune, base, data, given, reference, on)
            with report.attempt(f"{label}: export"):
                exported(report, label, attune, model, llama, base, data, given, on, folder / f"{kind}.exported", llama_near)
    if attune:
        tuned(report, name, attune, model, llama, base, data, off, folder, llama_near)
    llama.close()


def imported(report, label, attune, base, data, peft_folder, gguf_file, expected):
    """Attune takes PEFT's folder and llama.cpp's file as they are, and through its own container."""
    report.near(f"{label}: attune with PEFT's folder", attune.logprobs(base, data, peft_folder), expected, NEAR)
    report.near(f"{label}: attune with the GGUF file", attune.logprobs(base, data, gguf_file), expected, NEAR)
    native = peft_folder.with_suffix(".attune")
    attune.run("adapter", "import", peft_folder, "--model", base, "--out", native)
    report.near(f"{label}: attune with what it imported", attune.logprobs(base, data, native), expected, NEAR)


def exported(report, label, attune, model, llama, base, data, adapter, expected, out, llama_near):
    """PEFT and llama.cpp take what Attune exports."""
    peft_out, gguf_out = out.with_name(out.name + ".peft"), out.with_name(out.name + ".gguf")
    shutil.rmtree(peft_out, ignore_errors=True)
    gguf_out.unlink(missing_ok=True)
    attune.run("adapter", "export", adapter, "--model", base, "--format", "peft", "--out", peft_out)
    attune.run("adapter", "export", adapter, "--model", base, "--format", "gguf", "--out", gguf_out)
    report.near(f"{label}: PEFT with attune's export", with_peft(model, peft_out, data), expected, NEAR)
    report.near(f"{label}: llama.cpp with attune's export", llama.logprobs(data, gguf_out), expected, llama_near)
    if (adapter / "adapter_model.safetensors").exists():
        report.true(f"{label}: PEFT to PEFT loses nothing", *same_tensors(adapter, peft_out))


def tuned(report, name, attune, model, llama, base, data, off, folder, llama_near):
    """An adapter that Attune tuned means the same everywhere."""
    for kind, flags in [("tuned", []), ("tuned rslora", ["--use-rslora"]), ("tuned top", ["--layers", "1", "--target-modules", "q_proj,down_proj"])]:
        label, run_folder = f"{name}, {kind}", folder / kind.replace(" ", "-")
        shutil.rmtree(run_folder, ignore_errors=True)
        with report.attempt(label):
            attune.run("tune", "--model", base, "--data", write_data(base, data), "--out", run_folder, "--steps", 10, "--rank", 4,
                       "--alpha", 8, "--learning-rate", "2e-2", "--batch-size", 3, "--seed", 1, *flags)
            on = attune.logprobs(base, data, run_folder)
            report.far(f"{label}: tuning changed the model", on, off, 0.05)
            report.true(f"{label}: tuning raised the targets' probability", sum(map(sum, on)) > sum(map(sum, off)))
            exported(report, label, attune, model, llama, base, data, run_folder, on, folder / f"{run_folder.name}.exported", llama_near)


def same_tensors(one, other):
    a, b = (load_file(f / "adapter_model.safetensors") for f in (one, other))
    if a.keys() != b.keys():
        return False, f"{len(a)} and {len(b)} tensors, names differ: {sorted(a.keys() ^ b.keys())[:2]}"
    settings = [json.loads((f / "adapter_config.json").read_text()) for f in (one, other)]
    for key in ("peft_type", "r", "lora_alpha", "use_rslora"):
        if settings[0][key] != settings[1].get(key):
            return False, f"{key}: {settings[0][key]} became {settings[1].get(key)}"
    return all(a[k].shape == b[k].shape and (a[k] == b[k]).all() for k in a), f"{len(a)} tensors, bit for bit"
