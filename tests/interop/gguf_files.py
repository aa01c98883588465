"""GGUF files: bases from transformers' models, adapters from PEFT's folders, quantised bases by llama.cpp itself."""

import ctypes
import json
import math
import pathlib

import gguf
import numpy as np
import torch
from safetensors.numpy import load_file

ARCHITECTURES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma": "gemma", "gemma3_text": "gemma3"}
PARTS = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


def head_width(config):
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def permuted(config, name, value, back=False):
    """Rows of llama's q and k (and of their LoRA B) in GGUF's order, [heads, E/2, 2] for [heads, 2, E/2]."""
    if config.model_type != "llama" or not ("q_proj" in name or "k_proj" in name):
        return value
    heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
    half = value.shape[0] // heads // 2
    split = (heads, half, 2) if back else (heads, 2, half)
    return np.ascontiguousarray(value.reshape(*split, -1).swapaxes(1, 2).reshape(value.shape))


def rope_of(config, kind=None):
    """transformers 5 keeps rope's numbers in a dictionary, one for each kind of layer where there are kinds."""
    parameters = config.rope_parameters
    return parameters[kind] if kind else parameters


def write_base(model, path):
    config = model.config
    architecture = ARCHITECTURES[config.model_type]
    w = gguf.GGUFWriter(str(path), architecture)
    width = head_width(config)
    w.add_block_count(config.num_hidden_layers)
    w.add_context_length(config.max_position_embeddings)
    w.add_embedding_length(config.hidden_size)
    w.add_feed_forward_length(config.intermediate_size)
    w.add_head_count(config.num_attention_heads)
    w.add_head_count_kv(config.num_key_value_heads)
    w.add_key_length(width)
    w.add_value_length(width)
    w.add_layer_norm_rms_eps(config.rms_norm_eps)
    w.add_vocab_size(config.vocab_size)
    rope = rope_of(config, "full_attention" if architecture == "gemma3" else None)
    w.add_rope_freq_base(rope["rope_theta"])
    if architecture == "llama":
        w.add_rope_dimension_count(width)
    if architecture == "gemma3":
        w.add_sliding_window(config.sliding_window)
    if rope["rope_type"] == "linear":
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "llama3":
        w.add_tensor("rope_freqs.weight", llama3_factors(rope, width))
    add_vocabulary(w, config.vocab_size)
    for name, value in base_tensors(model).items():
        w.add_tensor(name, value)
    finish(w)


def base_tensors(model):
    """GGUF names and float32 values of all weights."""
    config = model.config
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[ARCHITECTURES[config.model_type].upper()], config.num_hidden_layers)
    tensors = {}
    for name, p in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        value = permuted(config, name, p.detach().float().numpy())
        if config.model_type.startswith("gemma") and name.endswith("norm.weight"):
            value = value + 1
        tensors[names.get_name(name, try_suffixes=(".weight", ".bias"))] = value
    assert None not in tensors
    return tensors


def load_dequantised(model, path):
    """Gives the model the weights that a quantised file holds, decoded by the gguf package."""
    config = model.config
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[ARCHITECTURES[config.model_type].upper()], config.num_hidden_layers)
    stored = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(str(path)).tensors}
    state = model.state_dict()
    for name in state:
        stored_name = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if name == "lm_head.weight" and config.tie_word_embeddings:
            stored_name = "token_embd.weight"
        value = permuted(config, name, np.array(stored[stored_name], dtype=np.float32), back=True)
        if config.model_type.startswith("gemma") and name.endswith("norm.weight"):
            value = value - 1
        state[name] = torch.from_numpy(value)
    model.load_state_dict(state)


def write_adapter(config, peft_folder, path, permute=True):
    """A PEFT folder as llama.cpp's GGUF LoRA, written here independently of Attune's exporter.

    `permute=False` leaves B's rows in PEFT's order: wrong for llama, and written to show that it is noticed.
    """
    folder = pathlib.Path(peft_folder)
    settings = json.loads((folder / "adapter_config.json").read_text())
    alpha = float(settings["lora_alpha"])
    if settings.get("use_rslora"):
        alpha *= math.sqrt(settings["r"])      # llama.cpp scales by alpha / r
    w = gguf.GGUFWriter(str(path), ARCHITECTURES[config.model_type])
    w.add_string("general.type", "adapter")
    w.add_string("adapter.type", "lora")
    w.add_float32("adapter.lora.alpha", alpha)
    for name, value in load_file(folder / "adapter_model.safetensors").items():
        layer, rest = name.removeprefix("base_model.model.model.layers.").removesuffix(".weight").split(".", 1)
        part, factor = rest.rsplit(".", 1)
        if factor == "lora_B" and permute:
            value = permuted(config, part, value)
        w.add_tensor(f"blk.{layer}.{PARTS[part]}.weight.{factor.lower()}", np.ascontiguousarray(value.astype(np.float32)))
    finish(w)


def quantise(source, target, kind):
    """llama.cpp's own quantiser: real files, with its choice of types for each tensor."""
    import llama_cpp
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    parameters.nthread = 1
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(parameters)) != 0:
        raise RuntimeError(f"llama.cpp cannot quantise to {kind}")


def add_vocabulary(w, size):
    """A small SentencePiece vocabulary: three special tokens, all bytes, then letters and pairs."""
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    pieces = ["\u2581"] + letters + ["\u2581" + c for c in letters] + [a + b for a in letters for b in "aeiou"]
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    types = [2, 3, 3] + [6] * 256
    tokens += pieces[: size - len(tokens)]
    types += [1] * (size - len(types))
    w.add_tokenizer_model("llama")
    w.add_token_list(tokens)
    w.add_token_scores([-float(i) for i in range(size)])
    w.add_token_types(types)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)


def llama3_factors(rope, width):
    """What llama.cpp divides each frequency by: its form of llama-3's scaling."""
    old, low, high = rope["original_max_position_embeddings"], rope["low_freq_factor"], rope["high_freq_factor"]
    factors = []
    for i in range(0, width, 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (i / width)
        smooth = min(1.0, max(0.0, (old / wavelength - low) / (high - low)))
        factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(factors, dtype=np.float32)


def finish(w):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
