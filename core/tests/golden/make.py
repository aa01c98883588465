#!/usr/bin/env python3
"""Makes the golden values of the objectives beside this file: losses, metrics, and derivatives with respect to every log-probability.

Log-probabilities are drawn, not computed by a model. Where TRL has the objective, TRL's own trainer computes its loss: the trainer's method is
called on stand-ins for the trainer and the model, and the model's stand-in answers with the drawn numbers. What TRL does not have, or computes
in the middle of sampling (advantages), is written out here. Everything runs in float64, and torch differentiates.

    python core/tests/golden/make.py        # needs torch and trl 1.16; writes core/tests/golden/*.json
"""
import json
import math
import os
from collections import defaultdict
from types import SimpleNamespace

import torch
from torch.nn.functional import logsigmoid
from trl import DPOTrainer, GRPOTrainer, KTOTrainer, RewardTrainer, RLOOTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer

HERE = os.path.dirname(os.path.abspath(__file__))
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
torch.manual_seed(20261122)


def draw(n, low, high):
    """Numbers with few digits, which f32 holds exactly."""
    return [round(x * 64) / 64 for x in (low + (high - low) * torch.rand(n)).tolist()]


def leaf(rows, dtype=torch.float64):
    return [torch.tensor(row, dtype=dtype, requires_grad=True) for row in rows]


def pad(rows, value=0.0):
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=value)


def slopes(loss, rows):
    """Derivatives with respect to every number of ragged rows."""
    return [[0.0] * len(r) if g is None else g.tolist() for g, r in zip(torch.autograd.grad(loss, rows, allow_unused=True), rows)]


def one(row):
    """The derivative that all tokens of an answer share."""
    assert all(abs(x - row[0]) < 1e-7 for x in row), row
    return row[0]


class Accelerator:
    device = torch.device("cpu")
    num_processes = 1
    sync_gradients = True

    def gather(self, x):
        return x

    gather_for_metrics = gather

    def reduce(self, x, reduction):
        return x


def trainer(**fields):
    return SimpleNamespace(model=SimpleNamespace(training=True), accelerator=Accelerator(), aux_loss_enabled=False,
                           _metrics={"train": defaultdict(list)}, _total_train_tokens=0, _tp_size=1, **fields)


def metrics(fake, names):
    return {name: values[-1] for name, values in fake._metrics["train"].items() if name in names}


def outputs(rows):
    """What TRL's fused head says of rows of targets; everything but the log-probabilities is of no matter here."""
    lp = pad(rows)
    return SimpleNamespace(log_probs=lp, entropy=torch.zeros_like(lp), mean_logits=torch.zeros_like(lp), is_top1=torch.zeros_like(lp).bool())


def masks(rows):
    """input_ids, attention_mask and completion_mask of a prompt of one token and the rows as completions."""
    kept = pad([torch.ones(len(r), dtype=torch.long) for r in rows], 0)
    mask = torch.cat([torch.zeros(len(rows), 1, dtype=torch.long), kept], 1)
    return {"input_ids": torch.ones_like(mask), "attention_mask": torch.ones_like(mask), "completion_mask": mask}


def total(row):
    return sum(row)


REWARDS = ["rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected", "kl"]


def pairs():
    lengths = [(7, 4), (1, 9), (5, 5)]
    data = [{"prompt": draw(3, -6, -0.1), "chosen": draw(c, -4, -0.05), "rejected": draw(r, -4, -0.05)} for c, r in lengths]
    for pair in data:
        for side in ("chosen", "rejected"):
            pair["ref_" + side] = total(pair[side]) + draw(1, -7, 7)[0]
    cases = []

    def leaves(dtype=torch.float64):
        return [leaf([pair[side] for pair in data], dtype) for side in ("chosen", "rejected", "prompt")]

    def differentiated(loss, rows):
        flat = [r for side in rows for r in side]
        grads = torch.autograd.grad(loss, flat, allow_unused=True)
        out = [one([0.0] * len(r) if g is None else g.tolist()) for g, r in zip(grads, flat)]
        n = len(data)
        return out[:n], out[n:2 * n], out[2 * n:]

    def keep(method, options, loss, rows, said):
        chosen, rejected, prompt = differentiated(loss, rows)
        cases.append({"method": method, "options": options, "loss": loss.item(), "chosen": chosen, "rejected": rejected, "prompt": prompt,
                      "metrics": said})

    def dpo(loss_type, **options):
        full = {"beta": 0.1, "label_smoothing": 0.0, "f_divergence_type": "reverse_kl", "f_alpha_divergence_coef": 0.5, "discopop_tau": 0.05}
        full.update(options)
        # TRL refuses float64 here.
        dtype = torch.float32 if full["f_divergence_type"] == "alpha_divergence" else torch.float64
        rows = leaves(dtype)
        fake = trainer(ld_alpha=None, precompute_ref_logps=True, loss_types=[loss_type], loss_weights=[1.0], use_weighting=False,
                       args=SimpleNamespace(discopop_tau=full["discopop_tau"]), **full)
        every = rows[0] + rows[1]
        inputs = masks(every)
        for side in ("chosen", "rejected"):
            inputs[f"ref_{side}_logps"] = torch.tensor([pair["ref_" + side] for pair in data], dtype=dtype)
        loss = DPOTrainer._compute_loss(fake, lambda **_: outputs(every), inputs, False)
        keep("dpo", {"loss_type": loss_type, **options}, loss, rows, metrics(fake, REWARDS))

    for loss_type in ("sigmoid", "hinge", "ipo", "nca_pair", "robust", "bco_pair", "sppo_hard", "apo_zero", "apo_down", "discopop", "sft",
                      "sigmoid_norm"):
        dpo(loss_type)
    for options in ({"label_smoothing": 0.1}, {"label_smoothing": 0.3, "beta": 0.5}):
        dpo("robust", **options)
    dpo("exo_pair", label_smoothing=0.001)
    dpo("discopop", discopop_tau=0.3, beta=0.4)
    dpo("ipo", beta=0.5)
    for divergence in ("forward_kl", "js_divergence", "alpha_divergence"):
        for loss_type in ("sigmoid", "sigmoid_norm", "ipo"):
            dpo(loss_type, f_divergence_type=divergence)
    dpo("sigmoid", f_divergence_type="alpha_divergence", f_alpha_divergence_coef=0.8)

    # Two forms that TRL 1.16 does not have: smoothed labels (earlier versions had it under `sigmoid`), and IPO's sum.
    for smoothing in (0.1, 0.25):
        rows = leaves()
        x = torch.stack([c.sum() - p["ref_chosen"] - r.sum() + p["ref_rejected"] for c, r, p in zip(rows[0], rows[1], data)])
        loss = (-(1 - smoothing) * logsigmoid(0.1 * x) - smoothing * logsigmoid(-0.1 * x)).mean()
        keep("dpo", {"loss_type": "sigmoid", "label_smoothing": smoothing}, loss, rows, {})
    rows = leaves()
    x = torch.stack([c.sum() - p["ref_chosen"] - r.sum() + p["ref_rejected"] for c, r, p in zip(rows[0], rows[1], data)])
    keep("dpo", {"loss_type": "ipo_sum"}, ((x - 1 / 0.2) ** 2).mean(), rows, {})

    def cpo(loss_type, **options):
        full = {"beta": 0.1, "label_smoothing": 0.0, "cpo_alpha": 1.0, "simpo_gamma": 0.5, "alpha": 0.0}
        full.update(options)
        rows = leaves()
        reduce = torch.mean if loss_type in ("ipo", "simpo") else torch.sum
        chosen, rejected = (torch.stack([reduce(r) for r in side]) for side in rows[:2])
        fake = trainer(loss_type=loss_type, **full)
        losses, chosen_rewards, rejected_rewards = CPOTrainer.cpo_loss(fake, chosen, rejected)
        loss, said = losses.mean(), {}
        if full["cpo_alpha"] != 0:
            nll = -torch.cat(rows[0]).mean()
            loss, said = loss + full["cpo_alpha"] * nll, {"nll_loss": nll.item()}
        said |= {"rewards/chosen": chosen_rewards.mean().item(), "rewards/rejected": rejected_rewards.mean().item()}
        method = "simpo" if loss_type == "simpo" else "cpo"
        kept = {"loss_type": loss_type, **options} if method == "cpo" else {"cpo_alpha": 1.0, **options}
        keep(method, kept, loss, rows, said)

    for loss_type in ("sigmoid", "hinge", "ipo", "simpo"):
        cpo(loss_type)
        cpo(loss_type, cpo_alpha=0.0, beta=0.7)
        cpo(loss_type, alpha=0.1, cpo_alpha=0.5)
    cpo("sigmoid", label_smoothing=0.2)
    cpo("simpo", label_smoothing=0.2, simpo_gamma=1.2, beta=2.0, cpo_alpha=0.0)

    def orpo(nll_over, beta=0.1):
        rows = leaves()
        chosen, rejected = (torch.stack([r.mean() for r in side]) for side in rows[:2])
        # ORPOTrainer takes float32 here, and nothing else in it depends on that.
        exact = SimpleNamespace(float=lambda: chosen, to=chosen.to), SimpleNamespace(float=lambda: rejected, to=rejected.to)
        losses, _, _, ratio, odds = ORPOTrainer.odds_ratio_loss(trainer(beta=beta), *exact)
        learnt = rows[0] + (rows[2] if nll_over == "sequence" else [])
        nll = -torch.cat(learnt).mean()
        said = {"nll_loss": nll.item(), "log_odds_ratio": ratio.item(), "log_odds_chosen": odds.item()}
        keep("orpo", {"nll": nll_over, "beta": beta}, nll - losses.mean(), rows, said)

    for nll_over in ("sequence", "completion"):
        orpo(nll_over)
        orpo(nll_over, 0.6)
    return {"pairs": data, "cases": cases}


def ratings():
    data = [{"completion": draw(n, -4, -0.05), "label": label} for n, label in ((6, True), (3, False), (8, True), (2, False), (5, False))]
    for row in data:
        row["ref"] = total(row["completion"]) + draw(1, -7, 7)[0]
        row["kl"] = draw(1, -40, -20)[0]
        row["ref_kl"] = row["kl"] - draw(1, -2, 5)[0]
    cases = []

    def kto(rows_of, **options):
        full = {"loss_type": "kto", "beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0}
        full.update(options)
        used = [data[i] for i in rows_of]
        rows = leaf([row["completion"] for row in used])
        fake = trainer(precompute_ref_logps=True, calculate_KL=full["loss_type"] == "kto", **full)
        fake._compute_kl_logps = lambda *_: torch.tensor([row["kl"] for row in used])
        inputs = masks(rows)
        inputs["label"] = torch.tensor([row["label"] for row in used])
        inputs["ref_logps"] = torch.tensor([row["ref"] for row in used])
        inputs["ref_KL_logps"] = torch.tensor([row["ref_kl"] for row in used])
        loss = KTOTrainer._compute_loss(fake, lambda **_: outputs(rows), inputs, False)
        cases.append({"rows": rows_of, "options": options, "loss": loss.item(), "coef": [one(r) for r in slopes(loss, rows)],
                      "metrics": metrics(fake, REWARDS)})

    everything = list(range(len(data)))
    kto(everything)
    kto(everything, beta=0.5, desirable_weight=1.33, undesirable_weight=0.7)
    kto(everything, loss_type="apo_zero_unpaired")
    kto([0, 2])
    kto([1, 3, 4])
    return {"ratings": data, "cases": cases}


def rankings():
    """Plackett-Luce by its definition; TRL has none."""
    cases = []
    for length in (1, 2, 3, 5, 9):
        for beta in (0.1, 0.8):
            answers = [draw(int(n), -4, -0.05) for n in torch.randint(1, 5, (length,))]
            reference = [total(a) + draw(1, -7, 7)[0] for a in answers]
            rows = leaf(answers)
            r = torch.stack([beta * (row.sum() - ref) for row, ref in zip(rows, reference)])
            loss = sum((torch.logsumexp(r[k:], 0) - r[k] for k in range(length - 1)), torch.zeros(()) * r.sum())
            cases.append({"beta": beta, "answers": answers, "references": reference, "loss": loss.item(),
                          "coef": [one(s) for s in slopes(loss, rows)]})
    return {"cases": cases}


def scores():
    """The reward model: pairs by TRL's trainer, rankings by their definition."""
    cases, lists = [], []
    for centre in (None, 0.01, 0.3):
        for with_margin in (False, True):
            chosen, rejected = draw(4, -3, 3), draw(4, -3, 3)
            rows = leaf([chosen + rejected])
            fake = trainer(args=SimpleNamespace(center_rewards_coefficient=centre))
            inputs = {"attention_mask": torch.ones(8, 1)}
            margin = draw(4, 0, 2) if with_margin else [0.0] * 4
            if with_margin:
                inputs["margin"] = torch.tensor(margin)
            loss = RewardTrainer.compute_loss(fake, lambda **_: SimpleNamespace(logits=rows[0].unsqueeze(-1)), inputs)
            said = metrics(fake, ["min_reward", "mean_reward", "max_reward", "accuracy", "margin"])
            (slope,) = slopes(loss, rows)
            cases.append({"center_rewards_coefficient": centre, "chosen": chosen, "rejected": rejected, "margins": margin, "loss": loss.item(),
                          "coef": slope, "metrics": said})
    for length in (1, 2, 3, 6):
        for centre in (None, 0.05):
            (r,) = rows = leaf([draw(length, -3, 3)])
            every = [(i, j) for i in range(length) for j in range(i + 1, length)]
            loss = sum((-logsigmoid(r[i] - r[j]) + (centre or 0.0) * (r[i] + r[j]) ** 2 for i, j in every), r.sum() * 0) / max(len(every), 1)
            lists.append({"center_rewards_coefficient": centre, "scores": r.tolist(), "loss": loss.item(), "coef": slopes(loss, rows)[0]})
    return {"pairs": cases, "rankings": lists}


def nanstd(x, **kw):
    return torch.std(x, **kw)


def groups():
    """Sampled answers in groups of three, with rewards: RLOO and GRPO."""
    group, lengths = 3, (4, 2, 5, 3, 1, 6)
    policy = [draw(n, -3, -0.05) for n in lengths]
    moved = lambda far: [[lp + d for lp, d in zip(row, draw(len(row), -far, far))] for row in policy]
    old, reference = moved(0.4), moved(1.0)
    rewards = draw(6, -1, 2)
    mask = pad([torch.ones(n) for n in lengths])
    n = len(lengths)

    def rloo_advantages(beta=0.05, normalize_advantages=False, reward_clip_range=None):
        r = torch.tensor(rewards)
        if reward_clip_range:
            r = r.clamp(*reward_clip_range)
        r = r - beta * torch.tensor([sum(o) - sum(f) for o, f in zip(old, reference)])
        g = r.view(-1, group)
        a = (g - (g.sum(1, keepdim=True) - g) / (group - 1)).view(-1)
        return (a - a.mean()) / (a.std() + 1e-4) if normalize_advantages else a

    def grpo_advantages(scale_rewards="group"):
        r = torch.tensor(rewards)
        g = r.view(-1, group)
        a = r - g.mean(1).repeat_interleave(group)
        if scale_rewards == "group":
            a = a / (g.std(1).repeat_interleave(group) + 1e-4)
        elif scale_rewards == "batch":
            a = a / (r.std() + 1e-4)
        return a

    advantages = [{"method": "rloo", "options": o, "advantages": rloo_advantages(**o).tolist()}
                  for o in ({}, {"beta": 0.0}, {"normalize_advantages": True}, {"reward_clip_range": [-0.25, 0.5]})]
    advantages += [{"method": "grpo", "options": {"scale_rewards": s}, "advantages": grpo_advantages(s).tolist()} for s in ("group", "batch", "none")]
    cases = []
    names = ["kl", "clip_ratio/low_mean", "clip_ratio/low_min", "clip_ratio/high_mean", "clip_ratio/high_max", "clip_ratio/region_mean"]

    def inputs(advantage, with_old):
        given = {"prompt_ids": torch.ones(n, 1), "prompt_mask": torch.ones(n, 1), "completion_ids": torch.ones_like(mask), "completion_mask": mask,
                 "advantages": advantage, "ref_per_token_logps": pad([torch.tensor(r) for r in reference]), "num_items_in_batch": mask.sum()}
        if with_old:
            given["old_per_token_logps"] = pad([torch.tensor(o) for o in old])
        return given

    def grpo(with_old=True, **options):
        full = {"loss_type": "dapo", "importance_sampling_level": "token", "beta": 0.0, "epsilon": 0.2, "epsilon_high": None, "delta": None,
                "use_bias_correction_kl": True, "max_completion_length": 512}
        full.update(options)
        args = SimpleNamespace(delta=full["delta"], use_bias_correction_kl=full["use_bias_correction_kl"], steps_per_generation=1)
        high = full["epsilon"] if full["epsilon_high"] is None else full["epsilon_high"]
        rows = leaf(policy)
        fake = trainer(args=args, loss_type=full["loss_type"], importance_sampling_level=full["importance_sampling_level"], beta=full["beta"],
                       epsilon_low=full["epsilon"], epsilon_high=high, top_entropy_quantile=1.0, off_policy_mask_threshold=None, use_vllm=False,
                       current_gradient_accumulation_steps=1, max_completion_length=full["max_completion_length"], _entropy_bonus_enabled=False)
        fake._get_per_token_logps_and_entropies = lambda *_, **__: (pad(rows), torch.zeros_like(mask), None)
        loss = GRPOTrainer._compute_loss(fake, None, inputs(grpo_advantages(), with_old))
        cases.append({"method": "grpo", "options": options, "old": with_old, "advantages": grpo_advantages().tolist(), "loss": loss.item(),
                      "coef": slopes(loss, rows), "metrics": metrics(fake, names)})

    for loss_type in ("grpo", "bnpo", "dr_grpo", "dapo"):
        grpo(loss_type=loss_type)
        grpo(loss_type=loss_type, beta=0.04, max_completion_length=7)
    grpo(with_old=False, beta=0.04)
    grpo(beta=0.1, use_bias_correction_kl=False)
    grpo(epsilon=0.1, epsilon_high=0.28)
    grpo(delta=1.3, beta=0.02)
    for loss_type in ("grpo", "dapo"):
        grpo(loss_type=loss_type, importance_sampling_level="sequence", epsilon=0.05, beta=0.04)
    grpo(importance_sampling_level="sequence", use_bias_correction_kl=False, beta=0.04)

    def rloo(with_old=True, **options):
        full = {"epsilon": 0.2, "epsilon_high": None}
        full.update(options)
        rows = leaf(policy)
        high = full["epsilon"] if full["epsilon_high"] is None else full["epsilon_high"]
        fake = trainer(epsilon_low=full["epsilon"], epsilon_high=high)
        fake._get_per_token_logps_and_entropies = lambda *_, **__: (pad(rows), torch.zeros_like(mask), None)
        given = inputs(rloo_advantages(), False)
        given["old_logps"] = torch.tensor([sum(o) for o in (old if with_old else policy)])
        loss = RLOOTrainer._compute_loss(fake, None, given)
        cases.append({"method": "rloo", "options": options, "old": with_old, "advantages": rloo_advantages().tolist(), "loss": loss.item(),
                      "coef": slopes(loss, rows), "metrics": metrics(fake, names)})

    rloo(with_old=False)
    rloo()
    rloo(epsilon=0.5, epsilon_high=0.9)
    return {"group": group, "policy": policy, "old": old, "reference": reference, "rewards": rewards, "advantages": advantages, "cases": cases}


def rounded(x):
    """Twelve significant digits, which is more than what the tests compare."""
    if isinstance(x, float):
        return float(f"{x:.12g}") if math.isfinite(x) else x
    if isinstance(x, list):
        return [rounded(v) for v in x]
    if isinstance(x, dict):
        return {k: rounded(v) for k, v in x.items()}
    return x


def write(name, content):
    def rows(key, value):
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return json.dumps(key) + ": [\n" + ",\n".join(json.dumps(v) for v in value) + "\n]"
        return json.dumps(key) + ": " + json.dumps(value)

    with open(os.path.join(HERE, name), "w") as f:
        f.write("{\n" + ",\n".join(rows(k, v) for k, v in rounded(content).items()) + "\n}\n")


if __name__ == "__main__":
    write("pairs.json", pairs())
    write("ratings.json", ratings())
    write("rankings.json", rankings())
    write("scores.json", scores())
    write("groups.json", groups())
