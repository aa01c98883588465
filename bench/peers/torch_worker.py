"""PyTorch, transformers and PEFT: one training step after another, with rank-R LoRA on all seven linears.

Batch 1, no checkpointing, AdamW; the loss falls on every token but the first. For DPO, a pair of answers with half of the tokens each; the reference
is the model with the adapter switched off, which is what TRL does with PEFT models.
"""

import os
import time

import worker

MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Peer:
    def load(self, shape, dtype, rank, threads):
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
        import peft
        import torch
        import transformers

        import shapes

        torch.set_num_threads(threads)
        torch.manual_seed(1)
        self.torch = torch
        libraries = worker.resident()
        config = shapes.config(shape)
        base = transformers.AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
        base.config.use_cache = False
        self.weights = sum(p.numel() * p.element_size() for p in base.parameters())
        lora = peft.LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=MODULES, task_type="CAUSAL_LM")
        # The adapter in the model's own type: nothing is converted on the way, which is the faster of the two.
        self.model = peft.get_peft_model(base, lora, autocast_adapter_dtype=False)
        self.model.train()
        self.vocab = config.vocab_size
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=2e-4, weight_decay=0.0, fused=True)
        versions = {m.__name__: m.__version__ for m in (torch, transformers, peft)}
        return {"versions": versions, "weights_bytes": self.weights, "libraries_bytes": libraries, "trained": sum(p.numel() for p in trained)}

    def step(self, tokens, mode="sft", repeat=1):
        """Seconds of each of `repeat` steps and of their parts."""
        worker.forget_peak()
        before = worker.resident()
        run = {"sft": self.sft, "dpo": self.dpo}[mode]
        steps = []
        for _ in range(repeat):
            began = time.perf_counter()
            loss = run(tokens)
            forward = time.perf_counter()
            loss.backward()
            backward = time.perf_counter()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            done = time.perf_counter()
            steps.append({"seconds": done - began, "forward": forward - began, "backward": backward - forward, "update": done - backward})
            assert self.torch.isfinite(loss).item()
        peak = worker.peak()
        return {"steps": steps, "peak_bytes": peak, "peak_less_weights": peak - self.weights, "grown": peak - before}

    def trl(self, tokens, repeat=1):
        """Seconds of each step that TRL's SFT trainer makes, which adds its own metrics to the loop above."""
        import datasets
        import trl

        rows = self.ids(repeat + 1, tokens).tolist()
        return self.trained(
            trl.SFTTrainer,
            trl.SFTConfig,
            datasets.Dataset.from_dict({"input_ids": rows, "labels": rows}),
            max_steps=repeat + 1,
            max_length=tokens,
            dataset_kwargs={"skip_prepare_dataset": True},
        )

    def trl_dpo(self, tokens, prompt, repeat=1, precompute=False):
        """Seconds of each step of TRL's DPO trainer: one pair of `tokens` tokens each, of which they share the first `prompt`.

        With `precompute` the reference's log-probabilities are there before the first step, and their time is not among the seconds.
        """
        import datasets
        import trl

        class Trainer(trl.DPOTrainer):
            def _prepare_dataset(self, dataset, *_, **__):
                return dataset

        prompts = self.ids(repeat + 1, prompt).tolist()
        answers = {name: self.ids(repeat + 1, tokens - prompt).tolist() for name in ("chosen_ids", "rejected_ids")}
        return self.trained(
            Trainer,
            trl.DPOConfig,
            datasets.Dataset.from_dict({"prompt_ids": prompts, **answers}),
            max_steps=repeat + 1,
            max_length=tokens,
            precompute_ref_log_probs=precompute,
        )

    def trained(self, trainer, config, data, **options):
        """Seconds of each step but the first that one of TRL's trainers makes, one example a step."""
        import tempfile
        import time as clock

        import tokenizers
        import transformers
        import trl

        words = tokenizers.models.WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<pad>")
        tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer(words), eos_token="<eos>", pad_token="<pad>")
        seconds, began = [], [0.0]

        class Watch(transformers.TrainerCallback):
            def on_step_begin(self, *_, **__):
                began[0] = clock.perf_counter()

            def on_step_end(self, *_, **__):
                seconds.append(clock.perf_counter() - began[0])

        with tempfile.TemporaryDirectory() as folder:
            settings = config(
                output_dir=folder,
                per_device_train_batch_size=1,
                gradient_checkpointing=False,
                bf16=False,
                use_cpu=True,
                report_to=[],
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
                **options,
            )
            run = trainer(model=self.model, args=settings, train_dataset=data, processing_class=tokenizer, callbacks=[Watch()])
            run.train()
        if "ref" in self.model.peft_config:
            # The DPO trainer's reference, a copy of the adapter; its next one makes its own.
            self.model.delete_adapter("ref")
            self.model.set_adapter("default")
        return {"seconds": seconds[1:], "version": trl.__version__}

    def ids(self, rows, tokens):
        return self.torch.randint(0, self.vocab, (rows, tokens))

    def sft(self, tokens):
        ids = self.ids(1, tokens)
        return self.model(input_ids=ids, labels=ids).loss

    def dpo(self, tokens):
        torch = self.torch
        ids = self.ids(2, tokens // 2)
        # The first half of each row is the prompt that the pair shares.
        prompt = tokens // 4
        ids[1, :prompt] = ids[0, :prompt]
        with torch.no_grad(), self.model.disable_adapter():
            reference = self.logprobs(ids, prompt)
        chosen, rejected = self.logprobs(ids, prompt) - reference
        return -torch.nn.functional.logsigmoid(0.1 * (chosen - rejected))

    def logprobs(self, ids, prompt):
        logits = self.model(input_ids=ids, logits_to_keep=ids.shape[1] - prompt + 1).logits[:, :-1]
        each = self.torch.log_softmax(logits.float(), dim=-1).gather(-1, ids[:, prompt:, None])
        return each.squeeze(-1).sum(-1)


if __name__ == "__main__":
    peer = Peer()
    worker.serve({"load": peer.load, "step": peer.step, "trl": peer.trl, "trl_dpo": peer.trl_dpo})
