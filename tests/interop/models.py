"""Tiny random models of every architecture, made with transformers, and random adapters made with PEFT."""

import torch
from transformers import AutoModelForCausalLM, Gemma3TextConfig, GemmaConfig, LlamaConfig, Qwen2Config, Qwen3Config

ALL_MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
VOCABULARY = 320

# Head width times heads differs from the model's width, and there are fewer key heads than heads, where the
# architecture allows it.
COMMON = dict(vocab_size=VOCABULARY, hidden_size=96, intermediate_size=160, num_hidden_layers=3, num_attention_heads=4,
              num_key_value_heads=2, max_position_embeddings=256, bos_token_id=1, eos_token_id=2, pad_token_id=0)
WIDE = COMMON | dict(hidden_size=256, intermediate_size=352)   # a multiple of K-quants' block, and one that is none


def configs():
    llama3 = dict(rope_type="llama3", rope_theta=500.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                  original_max_position_embeddings=32)
    gemma3_rope = {"full_attention": dict(rope_type="linear", factor=8.0, rope_theta=1000.0),
                   "sliding_attention": dict(rope_type="default", rope_theta=10000.0)}
    # Seven layers: llama.cpp's default pattern makes the sixth global, the others local.
    kinds = ["full_attention" if (i + 1) % 6 == 0 else "sliding_attention" for i in range(7)]
    return {
        "llama": LlamaConfig(**COMMON, head_dim=24, rope_theta=10000.0, tie_word_embeddings=False),
        "llama3": LlamaConfig(**COMMON, head_dim=32, rope_parameters=llama3, tie_word_embeddings=True),
        "qwen2": Qwen2Config(**COMMON, rope_theta=10000.0, tie_word_embeddings=True),
        "qwen3": Qwen3Config(**COMMON, head_dim=32, rope_theta=10000.0, tie_word_embeddings=True),
        "gemma": GemmaConfig(**(COMMON | dict(num_key_value_heads=1)), head_dim=32, rope_theta=10000.0),
        "gemma3": Gemma3TextConfig(**(COMMON | dict(num_hidden_layers=7)), head_dim=32, rope_parameters=gemma3_rope, sliding_window=8,
                                   layer_types=kinds, query_pre_attn_scalar=32),
    }


def wide_configs():
    return {
        "llama wide": LlamaConfig(**WIDE, head_dim=64, rope_theta=10000.0, tie_word_embeddings=False),
        "qwen3 wide": Qwen3Config(**WIDE, head_dim=32, rope_theta=10000.0, tie_word_embeddings=True),
    }


def build(config, seed):
    """A model whose weights are large enough that every part of it matters."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    gemma = config.model_type.startswith("gemma")
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 2:
                embedding = name.endswith("embed_tokens.weight")
                p.normal_(std=(config.hidden_size ** -0.5 if embedding else 1.2 * p.shape[1] ** -0.5))
            elif name.endswith("bias"):
                p.normal_(std=0.3)
            else:
                p.normal_(mean=0.0 if gemma else 1.0, std=0.2)
    return model


def adapt(model, folder, rank, alpha, modules, seed, rslora=False, layers=None):
    """Saves a random adapter (A and B both non-zero) as PEFT does, and leaves the model as it was."""
    from peft import LoraConfig, get_peft_model
    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=modules, use_rslora=rslora, layers_to_transform=layers, task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config)
    with torch.no_grad():
        for name, p in adapted.named_parameters():
            if "lora_A" in name:
                p.normal_(std=p.shape[1] ** -0.5)
            elif "lora_B" in name:
                p.normal_(std=0.3 / rank ** 0.5)
    adapted.save_pretrained(folder)
    adapted.unload()


def examples(seed, vocabulary=VOCABULARY):
    """Token ids with labels; the prompt's labels are masked."""
    g = torch.Generator().manual_seed(seed)
    lines = []
    for length, prompt in [(40, 7), (17, 5), (9, 1)]:
        ids = torch.randint(3, vocabulary, (length,), generator=g).tolist()
        lines.append({"input_ids": ids, "labels": [-100] * prompt + ids[prompt:]})
    return lines
