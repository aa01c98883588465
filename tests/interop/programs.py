"""The same question to every program: the log-probability of each target token."""

import ctypes
import json
import pathlib
import subprocess

import numpy as np
import torch


def targets(example):
    """Indices of the tokens that the loss falls on; the first has nothing to be predicted from."""
    return [t for t, label in enumerate(example["labels"]) if t > 0 and label != -100]


def pick(logits, example):
    """[T, V] logits to the targets' log-probabilities, in float64."""
    logits = np.asarray(logits, dtype=np.float64)
    top = logits.max(axis=1, keepdims=True)
    logp = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
    return [float(logp[t - 1, example["input_ids"][t]]) for t in targets(example)]


def with_torch(model, data):
    with torch.no_grad():
        return [pick(model(torch.tensor([e["input_ids"]])).logits[0].numpy(), e) for e in data]


def with_peft(model, folder, data):
    from peft import PeftModel
    adapted = PeftModel.from_pretrained(model, str(folder)).eval()
    try:
        return with_torch(adapted, data)
    finally:
        adapted.unload()


class Command:
    """`attune`, or the oracle, which takes `logprobs`' arguments alone."""

    def __init__(self, binary, prefix):
        self.binary, self.prefix = str(binary), prefix

    def with_flags(self, *flags):
        return Command(self.binary, [*self.prefix, *flags])

    def logprobs(self, model, data, adapter=None):
        lines = self.run(*self.prefix, "--model", model, *(["--adapter", adapter] if adapter else []), "--data", write_data(model, data))
        answers = [json.loads(line) for line in lines.splitlines() if line.strip()]
        for answer, example in zip(answers, data, strict=True):
            expected = [example["labels"][t] for t in targets(example)]
            if answer["target_ids"] != expected:
                raise RuntimeError(f"target_ids: expected {expected}, found {answer['target_ids']}")
        return [a["logprobs"] for a in answers]

    def run(self, *arguments):
        arguments = [self.binary, *map(str, arguments)]
        done = subprocess.run(arguments, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"status {done.returncode}: {' '.join(arguments)}\n{done.stderr[-2000:]}")
        return done.stdout


def write_data(model, data):
    path = pathlib.Path(str(model) + ".jsonl")
    path.write_text("".join(json.dumps(e) + "\n" for e in data))
    return path


class LlamaCpp:
    """A model in llama.cpp, at float32 wherever it has the choice."""

    def __init__(self, path, vocabulary_only=False):
        import llama_cpp as lib
        self.lib = lib
        quiet(lib)
        parameters = lib.llama_model_default_params()
        parameters.n_gpu_layers = 0
        parameters.vocab_only = vocabulary_only
        parameters.use_extra_bufts = False       # no repacking: its AMX form crashes on some machines
        self.model = lib.llama_model_load_from_file(str(path).encode(), parameters)
        if not self.model:
            raise RuntimeError(f"llama.cpp cannot load {path}")
        self.vocabulary = lib.llama_model_get_vocab(self.model)

    def logprobs(self, data, adapter=None, scale=1.0):
        lib = self.lib
        lora = None
        if adapter:
            lora = lib.llama_adapter_lora_init(self.model, str(adapter).encode())
            if not lora:
                raise RuntimeError(f"llama.cpp refuses {adapter}")
        try:
            return [pick(self._logits(e["input_ids"], lora, scale), e) for e in data]
        finally:
            if lora:
                lib.llama_adapter_lora_free(lora)

    def _logits(self, ids, lora, scale):
        lib = self.lib
        parameters = lib.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = 256
        parameters.n_threads = parameters.n_threads_batch = 1
        parameters.type_k = parameters.type_v = 0        # GGML_TYPE_F32
        parameters.flash_attn_type = 0
        context = lib.llama_init_from_model(self.model, parameters)
        if not context:
            raise RuntimeError("llama.cpp cannot make a context")
        batch = lib.llama_batch_init(len(ids), 0, 1)
        try:
            if lora:
                adapters = (lib.llama_adapter_lora_p_ctypes * 1)(lora)
                if lib.llama_set_adapters_lora(context, adapters, 1, (ctypes.c_float * 1)(scale)) != 0:
                    raise RuntimeError("llama.cpp cannot set the adapter")
            batch.n_tokens = len(ids)
            for i, token in enumerate(ids):
                batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
                batch.seq_id[i][0] = 0
            if lib.llama_decode(context, batch) != 0:
                raise RuntimeError("llama.cpp cannot decode")
            shape = (len(ids), lib.llama_vocab_n_tokens(self.vocabulary))
            return np.ctypeslib.as_array(lib.llama_get_logits(context), shape=shape).copy()
        finally:
            lib.llama_batch_free(batch)
            lib.llama_free(context)

    def tokenize(self, text):
        """Special tokens in the text are parsed; none is added."""
        data = text.encode()
        room = len(data) * 2 + 16
        tokens = (self.lib.llama_token * room)()
        count = self.lib.llama_tokenize(self.vocabulary, data, len(data), tokens, room, False, True)
        if count < 0:
            raise RuntimeError("llama.cpp: too many tokens")
        return list(tokens[:count])

    def close(self):
        self.lib.llama_model_free(self.model)


_quiet = None


def quiet(lib):
    """llama.cpp's log goes nowhere; the callback must outlive it."""
    global _quiet
    if _quiet is None:
        _quiet = lib.llama_log_callback(lambda level, text, data: None)
        lib.llama_log_set(_quiet, None)
