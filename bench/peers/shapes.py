"""The sizes of `attune bench --shape`, as transformers' configurations: the same model in another library, with random weights."""

LLAMA = dict(head_dim=64, vocab_size=49152, rope_theta=100000.0, rms_norm_eps=1e-5, tie_word_embeddings=True)
QWEN = dict(head_dim=64, vocab_size=151936, rope_theta=1000000.0, rms_norm_eps=1e-6, tie_word_embeddings=True)


def _shape(family, base, layers, width, ff, heads, kv_heads, **more):
    sizes = dict(
        num_hidden_layers=layers,
        hidden_size=width,
        intermediate_size=ff,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
    )
    return family, {**base, **sizes, **more}


SHAPES = {
    "smollm2-135m": _shape("llama", LLAMA, 30, 576, 1536, 9, 3),
    "smollm2-360m": _shape("llama", LLAMA, 32, 960, 2560, 15, 5),
    "qwen2.5-0.5b": _shape("qwen2", QWEN, 24, 896, 4864, 14, 2),
    "qwen3-0.6b": _shape("qwen3", QWEN, 28, 1024, 3072, 16, 8, head_dim=128),
    "llama3.2-1b": _shape("llama", LLAMA, 16, 2048, 8192, 32, 8, vocab_size=128256, rope_theta=500000.0),
    "qwen3-1.7b": _shape("qwen3", QWEN, 28, 2048, 6144, 16, 8, head_dim=128),
}


def config(name):
    """The configuration of a shape."""
    import transformers

    family, sizes = SHAPES[name]
    sizes = dict(sizes)
    theta = sizes.pop("rope_theta")
    kind = {"llama": transformers.LlamaConfig, "qwen2": transformers.Qwen2Config, "qwen3": transformers.Qwen3Config}[family]
    if family == "qwen2":
        sizes.pop("head_dim")
    return kind(max_position_embeddings=8192, rope_parameters={"rope_type": "default", "rope_theta": theta}, **sizes)
