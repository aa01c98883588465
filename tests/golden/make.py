#!/usr/bin/env python3
"""Makes the golden values beside this file: a tiny model of every architecture, computed in float64 by the plain equations below.

Weights and starting adapters are not stored. Both this script and `tests/src/golden.rs` draw them from `number`, which is integer arithmetic; the
integers are chosen so that F32, F16 and Q8_0 hold exactly the same weights. Names and layouts are Hugging Face's and PEFT's.

    python tests/golden/make.py        # needs torch and numpy; writes tests/golden/ARCH/*
"""
import json
import math
import os

import numpy as np
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
MODULES = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
M64 = (1 << 64) - 1
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)


def mix(z):
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & M64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & M64
    return z ^ (z >> 31)


def name_key(name):
    """FNV-1a."""
    h = 0xCBF29CE484222325
    for b in name.encode():
        h = ((h ^ b) * 0x100000001B3) & M64
    return h


def number(key, i):
    """An integer of -127 to 127; every 32nd is +-127, so that a block of Q8_0 has a scale that is a power of two."""
    bits = mix((key + (i + 1) * 0x9E3779B97F4A7C15) & M64)
    if i % 32 == 0:
        return 127 if bits >> 63 else -127
    return int((bits >> 33) % 255) - 127


def draw(name, shape, exponent, offset=0.0):
    key, n = name_key(name), int(np.prod(shape))
    values = np.array([number(key, i) for i in range(n)], dtype=np.float64) * 2.0**-exponent + offset
    return torch.tensor(values.reshape(shape))


ARCHS = {
    "llama": dict(model_type="llama", eps=1e-5, theta=10000.0, tied=False, layers=2, head_dim=16, heads=4, kv=2),
    "qwen2": dict(model_type="qwen2", eps=1e-6, theta=1000000.0, tied=True, layers=2, head_dim=16, heads=2, kv=1),
    "qwen3": dict(model_type="qwen3", eps=1e-6, theta=1000000.0, tied=True, layers=2, head_dim=32, heads=2, kv=1),
    "gemma": dict(model_type="gemma", eps=1e-6, theta=10000.0, tied=True, layers=2, head_dim=32, heads=2, kv=1),
    "gemma3": dict(model_type="gemma3_text", eps=1e-6, theta=1000000.0, tied=True, layers=2, head_dim=16, heads=4, kv=2, window=3, pattern=2),
}
D, F, V, R, ALPHA = 32, 64, 48, 2, 4


def tensors_of(arch, a):
    """Name, shape, exponent, offset of every tensor."""
    gemma = arch.startswith("gemma")
    norm = (0.0 if gemma else 1.0)
    q, kv = a["heads"] * a["head_dim"], a["kv"] * a["head_dim"]
    all_ = [("model.embed_tokens.weight", [V, D], 9 if gemma else 8, 0.0), ("model.norm.weight", [D], 9, norm)]
    dims = {"q_proj": (q, D), "k_proj": (kv, D), "v_proj": (kv, D), "o_proj": (D, q), "gate_proj": (F, D), "up_proj": (F, D), "down_proj": (D, F)}
    adapter = []
    for i in range(a["layers"]):
        at = f"model.layers.{i}."
        norms = ["input_layernorm", "post_attention_layernorm"]
        if arch == "gemma3":
            norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
        all_ += [(f"{at}{n}.weight", [D], 9, norm) for n in norms]
        if arch in ("qwen3", "gemma3"):
            all_ += [(f"{at}self_attn.{n}.weight", [a["head_dim"]], 9, norm) for n in ("q_norm", "k_norm")]
        for m in MODULES:
            out, inp = dims[m.split(".")[1]]
            sharp = m.endswith(("q_proj", "k_proj"))
            all_.append((f"{at}{m}.weight", [out, inp], 8 if sharp else 9, 0.0))
            if arch == "qwen2" and m.endswith(("q_proj", "k_proj", "v_proj")):
                all_.append((f"{at}{m}.bias", [out], 8, 0.0))
            adapter.append((f"base_model.model.{at}{m}.lora_A.weight", [R, inp], 9, 0.0))
            adapter.append((f"base_model.model.{at}{m}.lora_B.weight", [out, R], 9, 0.0))
    if not a["tied"]:
        all_.append(("lm_head.weight", [V, D], 9, 0.0))
    return all_, adapter


def rms(x, w, eps, gemma):
    y = x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps)
    return y * (1.0 + w if gemma else w)


def rope(x, base):
    """x: [T, heads, E]; element i turns with i + E/2."""
    t, half = x.shape[0], x.shape[2] // 2
    freq = base ** (-torch.arange(half) * 2.0 / (2 * half))
    angle = torch.arange(t)[:, None] * freq[None, :]
    cos, sin = angle.cos()[:, None, :], angle.sin()[:, None, :]
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def forward(arch, a, w, lora, ids):
    gemma = arch.startswith("gemma")

    def linear(name, x):
        y = x @ w[name + ".weight"].T
        if name + ".bias" in w:
            y = y + w[name + ".bias"]
        if lora is not None:
            la, lb = lora[f"base_model.model.{name}.lora_A.weight"], lora[f"base_model.model.{name}.lora_B.weight"]
            y = y + (ALPHA / R) * ((x @ la.T) @ lb.T)
        return y

    act = (lambda x: torch.nn.functional.gelu(x, approximate="tanh")) if gemma else torch.nn.functional.silu
    t, h, k, e = len(ids), a["heads"], a["kv"], a["head_dim"]
    x = w["model.embed_tokens.weight"][ids]
    if gemma:
        x = x * math.sqrt(D)
    norm = lambda x, name: rms(x, w[name], a["eps"], gemma)
    for i in range(a["layers"]):
        at = f"model.layers.{i}."
        y = norm(x, at + "input_layernorm.weight")
        q = linear(at + "self_attn.q_proj", y).view(t, h, e)
        kk = linear(at + "self_attn.k_proj", y).view(t, k, e)
        v = linear(at + "self_attn.v_proj", y).view(t, k, e)
        if arch in ("qwen3", "gemma3"):
            q, kk = norm(q, at + "self_attn.q_norm.weight"), norm(kk, at + "self_attn.k_norm.weight")
        local = "pattern" in a and (i + 1) % a["pattern"] != 0
        base = 10000.0 if local else a["theta"]
        q, kk = rope(q, base), rope(kk, base)
        back = torch.arange(t)[:, None] - torch.arange(t)[None, :]
        seen = (back >= 0) & (back < a["window"]) if local else back >= 0
        group = h // k
        scores = torch.einsum("the,she->hts", q, kk.repeat_interleave(group, 1)) / math.sqrt(e)
        p = scores.masked_fill(~seen, -math.inf).softmax(-1)
        o = torch.einsum("hts,she->the", p, v.repeat_interleave(group, 1)).reshape(t, h * e)
        o = linear(at + "self_attn.o_proj", o)
        if arch == "gemma3":
            x = x + norm(o, at + "post_attention_layernorm.weight")
            y = norm(x, at + "pre_feedforward_layernorm.weight")
        else:
            x = x + o
            y = norm(x, at + "post_attention_layernorm.weight")
        y = linear(at + "mlp.down_proj", act(linear(at + "mlp.gate_proj", y)) * linear(at + "mlp.up_proj", y))
        x = x + (norm(y, at + "post_feedforward_layernorm.weight") if arch == "gemma3" else y)
    head = w["model.embed_tokens.weight"] if a["tied"] else w["lm_head.weight"]
    return norm(x, "model.norm.weight") @ head.T


def loss_of(arch, a, w, lora, batch):
    total, n = 0.0, 0
    for ids, mask, length in zip(batch["input_ids"], batch["loss_mask"], batch["lengths"]):
        ids, mask = ids[:length], mask[:length]
        lp = forward(arch, a, w, lora, ids).log_softmax(-1)
        rows = [t for t in range(1, length) if mask[t]]
        total = total - sum(lp[t - 1, ids[t]] for t in rows)
        n += len(rows)
    return total / n


def batch(key):
    """Two rows of different lengths, the prompt masked."""
    rows = []
    for r, (length, prompt) in enumerate([(8, 2), (6, 1)]):
        ids = [mix((key + r * 1000 + i) & M64) % V for i in range(length)]
        rows.append((ids, [0] * prompt + [1] * (length - prompt), length))
    pad = max(r[2] for r in rows)
    return {
        "input_ids": [ids + [0] * (pad - n) for ids, _, n in rows],
        "loss_mask": [mask + [0] * (pad - n) for _, mask, n in rows],
        "lengths": [n for _, _, n in rows],
    }


HYPER = {
    "adamw_a": {"lr": [1e-3] * 5, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01, "max_grad_norm": None},
    "adamw_b": {"lr": [5e-4, 1e-3, 2e-3, 1e-3, 5e-4], "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.1, "max_grad_norm": 0.25},
}


def gradients(arch, a, w, lora, b):
    leaves = {n: p.detach().clone().requires_grad_() for n, p in lora.items()}
    loss = loss_of(arch, a, w, leaves, b)
    loss.backward()
    return float(loss.detach()), {n: p.grad for n, p in leaves.items()}


def norm_of(grads):
    return math.sqrt(sum(float((g * g).sum()) for g in grads.values()))


def adamw(arch, a, w, lora, batches, h):
    p = {n: x.clone() for n, x in lora.items()}
    m, v = ({n: torch.zeros_like(x) for n, x in lora.items()} for _ in range(2))
    losses, norms = [], []
    for step, b in enumerate(batches):
        loss, g = gradients(arch, a, w, p, b)
        losses.append(loss)
        norms.append(norm_of(g))
        clip = min(1.0, h["max_grad_norm"] / (norms[-1] + 1e-6)) if h["max_grad_norm"] else 1.0
        (b1, b2), lr, t = h["betas"], h["lr"][step], step + 1
        for n in p:
            x = g[n] * clip
            m[n] = b1 * m[n] + (1 - b1) * x
            v[n] = b2 * v[n] + (1 - b2) * x * x
            p[n] = p[n] * (1 - lr * h["weight_decay"]) - lr / (1 - b1**t) * m[n] / ((v[n] / (1 - b2**t)).sqrt() + h["eps"])
    return p, losses, norms


def save(path, tensors):
    """safetensors: the header's length, the header, the numbers as f32."""
    header, data = {}, b""
    for name, x in tensors.items():
        part = x.detach().to(torch.float32).numpy().tobytes()
        header[name] = {"dtype": "F32", "shape": list(x.shape), "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text + data)


def make(arch, a):
    model, adapter = tensors_of(arch, a)
    w = {n: draw(n, s, e, o) for n, s, e, o in model}
    lora = {n: draw(n, s, e, o) for n, s, e, o in adapter}
    folder = os.path.join(HERE, arch)
    os.makedirs(folder, exist_ok=True)
    put = lambda name, value: open(os.path.join(folder, name), "w").write(json.dumps(value, separators=(",", ":")) + "\n")
    config = {
        "model_type": a["model_type"], "hidden_size": D, "intermediate_size": F, "num_hidden_layers": a["layers"], "num_attention_heads": a["heads"],
        "num_key_value_heads": a["kv"], "head_dim": a["head_dim"], "max_position_embeddings": 128, "rms_norm_eps": a["eps"], "rope_theta": a["theta"],
        "tie_word_embeddings": a["tied"], "vocab_size": V,
    }
    if "window" in a:
        config |= {"sliding_window": a["window"], "sliding_window_pattern": a["pattern"], "rope_local_base_freq": 10000.0}
    put("config.json", config)
    put("tensors.json", {"model": model, "adapter": adapter, "r": R, "lora_alpha": ALPHA})
    # AdamW's first step moves by the gradient's sign: a seed whose smallest gradient is no rounding error.
    for seed in range(1000):
        batches = [batch(mix(name_key(arch) + 97 * seed + step)) for step in range(6)]
        loss, grads = gradients(arch, a, w, lora, batches[0])
        first = gradients(arch, a, w, lora, batches[1])[1]
        margin = min(float(g.abs().min() / g.abs().max()) for g in first.values())
        if margin > 2e-5:
            break
    put("inputs.json", {"sft": batches[0], "adamw": batches[1:], "seed": seed})
    expected = {"hyper": HYPER, "sft": {"loss": loss, "grad_norm": norm_of(grads)}, "sft_loss_base": loss_of(arch, a, w, None, batches[0]).item()}
    logits = {}
    for name, l in [("logits_base", None), ("logits_lora", lora)]:
        out = torch.zeros(2, 8, V)
        for r, n in enumerate(batches[0]["lengths"]):
            out[r, :n] = forward(arch, a, w, l, batches[0]["input_ids"][r][:n])
        logits[name] = out
    save(os.path.join(folder, "forward.safetensors"), logits)
    save(os.path.join(folder, "grads_sft.safetensors"), grads)
    for name, h in HYPER.items():
        final, losses, norms = adamw(arch, a, w, lora, batches[1:], h)
        expected[name] = {"losses": losses, "grad_norms_before_clip": norms}
        save(os.path.join(folder, f"{name}.safetensors"), {"final." + n: x for n, x in final.items()})
    put("expected.json", expected)
    spread = float(logits["logits_base"].std())
    print(f"{arch}: seed {seed}, smallest gradient {margin:.1e} of the largest, loss {loss:.4f}, logits +-{spread:.2f}, norm {norm_of(grads):.3f}")


if __name__ == "__main__":
    for arch, a in ARCHS.items():
        make(arch, a)
