#!/usr/bin/env python3
"""Makes the golden values of CPO beside this file: losses and gradients of whole models, by `make.py`'s forward pass and the loss of TRL's CPOTrainer, in
float64. Bases and adapters are drawn as `make.py` draws them, so that none is stored.

    python tests/golden/make_cpo.py        # needs torch, numpy and trl 1.16; writes tests/golden/ARCH/cpo*
"""
import json
import os
from types import SimpleNamespace

import torch
from trl.experimental.cpo import CPOTrainer

from make import ARCHS, HERE, draw, forward, norm_of, save, tensors_of

# Prompt, chosen, rejected.
PAIRS = [([3, 17, 9, 22, 5], [11, 40, 2], [8, 2]), ([31, 7, 12], [44, 6, 19, 25, 2], [13, 13, 30, 2])]
DEFAULTS = {"loss_type": "sigmoid", "beta": 0.1, "label_smoothing": 0.0, "cpo_alpha": 1.0, "simpo_gamma": 0.5, "alpha": 0.0}
# What differs from TRL's defaults; the first case is CPO as it is.
CASES = [{}, {"cpo_alpha": 0.0, "beta": 0.7}, {"label_smoothing": 0.2}, {"loss_type": "hinge"}, {"loss_type": "ipo"}]


def logps(arch, a, w, lora, prompt, answer):
    """Of each of an answer's tokens."""
    ids = prompt + answer
    lp = forward(arch, a, w, lora, ids).log_softmax(-1)
    return torch.stack([lp[t - 1, ids[t]] for t in range(len(prompt), len(ids))])


def loss_of(arch, a, w, lora, case):
    options = DEFAULTS | case
    reduce = torch.mean if options["loss_type"] == "ipo" else torch.sum
    chosen = [logps(arch, a, w, lora, p, c) for p, c, _ in PAIRS]
    rejected = [logps(arch, a, w, lora, p, r) for p, _, r in PAIRS]
    trainer = SimpleNamespace(**options, accelerator=SimpleNamespace(device="cpu"))
    losses, _, _ = CPOTrainer.cpo_loss(trainer, torch.stack([reduce(x) for x in chosen]), torch.stack([reduce(x) for x in rejected]))
    return losses.mean() - options["cpo_alpha"] * torch.cat(chosen).mean()


def main():
    for arch, a in ARCHS.items():
        model, adapter = tensors_of(arch, a)
        w = {n: draw(n, s, e, o) for n, s, e, o in model}
        cases = []
        for i, case in enumerate(CASES):
            lora = {n: draw(n, s, e, o).requires_grad_() for n, s, e, o in adapter}
            loss = loss_of(arch, a, w, lora, case)
            loss.backward()
            grads = {n: p.grad for n, p in lora.items()}
            cases.append(case | {"loss": loss.item(), "grad_norm": norm_of(grads)})
            if i == 0:
                save(os.path.join(HERE, arch, "cpo_grads.safetensors"), grads)
        pairs = [{"prompt_ids": p, "chosen_ids": c, "rejected_ids": r} for p, c, r in PAIRS]
        with open(os.path.join(HERE, arch, "cpo.json"), "w") as f:
            f.write(json.dumps({"pairs": pairs, "cases": cases}, separators=(",", ":")) + "\n")
        print(arch, [(c["loss"], c["grad_norm"]) for c in cases])


main()
