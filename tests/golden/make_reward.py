#!/usr/bin/env python3
"""Makes the golden values of reward models beside this file: scores, losses and gradients of Transformers' sequence classifiers with one label, with LoRA by
PEFT, under the loss of TRL's RewardTrainer, in float64. Bases, adapters and heads are drawn as `make.py` draws them, so that none is stored.

    python tests/golden/make_reward.py        # needs torch, transformers, peft and trl 1.16; writes tests/golden/ARCH/reward*
"""
import json
import os
from collections import defaultdict
from types import SimpleNamespace

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import save_file
from transformers import (Gemma3TextConfig, Gemma3TextForSequenceClassification, GemmaConfig, GemmaForSequenceClassification, LlamaConfig,
                          LlamaForSequenceClassification, Qwen2Config, Qwen2ForSequenceClassification, Qwen3Config, Qwen3ForSequenceClassification)
from trl import RewardTrainer

import make
from make import ALPHA, ARCHS, D, F, HERE, R, V, draw, tensors_of

CLASSES = {
    "llama": (LlamaConfig, LlamaForSequenceClassification),
    "qwen2": (Qwen2Config, Qwen2ForSequenceClassification),
    "qwen3": (Qwen3Config, Qwen3ForSequenceClassification),
    "gemma": (GemmaConfig, GemmaForSequenceClassification),
    "gemma3": (Gemma3TextConfig, Gemma3TextForSequenceClassification),
}
SCORE = ("base_model.model.score.weight", [1, D], 9, 0.0)
# Prompt, chosen, rejected; 0 is the padding.
PAIRS = [([3, 17, 9, 22, 5], [11, 40, 2], [8, 2]), ([31, 7, 12], [44, 6, 19, 25, 2], [13, 13, 30, 2])]
CASES = [{}, {"center_rewards_coefficient": 0.1}, {"margins": [0.5, 1.25]}, {"center_rewards_coefficient": 0.01, "margins": [0.0, 2.0]}]
# The cases whose gradients are kept.
GRADIENTS = (0, 3)


def config_of(arch, a, kind):
    config = dict(vocab_size=V, hidden_size=D, intermediate_size=F, num_hidden_layers=a["layers"], num_attention_heads=a["heads"],
                  num_key_value_heads=a["kv"], head_dim=a["head_dim"], max_position_embeddings=64, rms_norm_eps=a["eps"], pad_token_id=0,
                  num_labels=1, tie_word_embeddings=a["tied"], attn_implementation="eager")
    if arch == "gemma3":
        kinds = ["full_attention" if (i + 1) % a["pattern"] == 0 else "sliding_attention" for i in range(a["layers"])]
        config |= dict(sliding_window=a["window"], layer_types=kinds, query_pre_attn_scalar=a["head_dim"], hidden_activation="gelu_pytorch_tanh")
        config["rope_parameters"] = {"full_attention": {"rope_type": "default", "rope_theta": a["theta"]},
                                     "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}
    else:
        if arch == "gemma":
            config |= dict(hidden_activation="gelu_pytorch_tanh")
        config["rope_parameters"] = {"rope_type": "default", "rope_theta": a["theta"]}
    return kind(**config)


def classifier(arch, a):
    kind, model = CLASSES[arch]
    model = model(config_of(arch, a, kind)).double()
    base, adapter = tensors_of(arch, a)
    state = {t[0]: draw(*t) for t in base if t[0] != "lm_head.weight"}
    state["score.weight"] = torch.zeros(1, D)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not missing and not unexpected, (missing, unexpected)
    names = [m.split(".")[1] for m in make.MODULES]
    lora = LoraConfig(task_type="SEQ_CLS", r=R, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=names)
    model = get_peft_model(model, lora)
    tuned = {t[0]: draw(*t) for t in adapter} | {SCORE[0]: draw(*SCORE)}
    set_peft_model_state_dict(model, tuned)
    assert set(get_peft_model_state_dict(model)) == set(tuned), set(get_peft_model_state_dict(model)) ^ set(tuned)
    # Gradients under the names that PEFT saves: its parameters have the adapter's in them.
    saved = lambda name: name.replace("modules_to_save.default.", "").replace(".default.", ".")
    parameters = {saved(n): p for n, p in model.named_parameters() if p.requires_grad}
    assert set(parameters) == set(tuned), set(parameters) ^ set(tuned)
    return model.double().eval(), parameters


class Accelerator:
    def gather(self, x):
        return x

    gather_for_metrics = gather


def trainer(coefficient):
    fake = SimpleNamespace(model=SimpleNamespace(training=False), accelerator=Accelerator(), _metrics={"eval": defaultdict(list)},
                           _total_train_tokens=0, args=SimpleNamespace(center_rewards_coefficient=coefficient))
    return fake


def main():
    for arch in CLASSES:
        a = ARCHS[arch]
        model, parameters = classifier(arch, a)
        rows = [torch.tensor(p + c) for p, c, _ in PAIRS] + [torch.tensor(p + r) for p, _, r in PAIRS]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=0)
        mask = (ids != 0).long()
        cases, grads = [], {}
        for i, case in enumerate(CASES):
            inputs = {"input_ids": ids, "attention_mask": mask}
            if "margins" in case:
                inputs["margin"] = torch.tensor(case["margins"], dtype=torch.float64)
            fake = trainer(case.get("center_rewards_coefficient"))
            model.zero_grad()
            loss, out = RewardTrainer.compute_loss(fake, model, inputs, return_outputs=True)
            loss.backward()
            said = {name: fake._metrics["eval"][name][-1] for name in ("min_reward", "mean_reward", "max_reward", "accuracy", "margin")}
            cases.append(case | {"loss": loss.item(), "metrics": said})
            if i in GRADIENTS:
                grads |= {f"{i}.{n}": p.grad.float().contiguous() for n, p in parameters.items()}
        scores = out.logits.squeeze(-1).tolist()
        n = len(PAIRS)
        pairs = [{"prompt_ids": p, "chosen_ids": c, "rejected_ids": r} for p, c, r in PAIRS]
        said = {"score": [list(SCORE)], "pairs": pairs, "scores": [[scores[i], scores[n + i]] for i in range(n)], "cases": cases}
        folder = os.path.join(HERE, arch)
        with open(os.path.join(folder, "reward.json"), "w") as f:
            json.dump(said, f)
        save_file(grads, os.path.join(folder, "reward_grads.safetensors"))
        largest = max(g.abs().max().item() for g in grads.values())
        print(arch, scores, [c["loss"] for c in cases], largest)


main()
