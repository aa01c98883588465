"""Small vocabularies in GGUF, trained on the spot, one for every family of tokenizers."""

import gguf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

# tokenizer.ggml.pre of the byte-level BPE families.
BPE = ["gpt-2", "llama-bpe", "qwen2", "smollm", "deepseek-llm", "deepseek-coder", "deepseek-v3", "falcon", "starcoder", "refact",
       "command-r", "mpt"]
# SentencePiece: whether a space is put before the text.
SPM = {"llama-spm": True, "gemma-spm": False}
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
USER_DEFINED = ["<tool_call>", "</tool_call>"]

CORPUS = """The quick brown fox jumps over the lazy dog. It wasn't what they'd said; we'll see, I'm sure, you've SEEN IT'S DONE.
In 1984, 12345 people paid $3.50 (that's 7%) on 2024-11-22 at 10:45; call 555-0199 or 8005550100.
def main(argv):\n    for i in range(100):\n\t\tprint(f"{i:03d}", argv[i] if i < len(argv) else None)\n\n\n    return 0  # done!!!
    if (a != b && c >= d) { x += 1; y->next = NULL; }   // ......  ------ ====== ######
日本語の文章もあります。東京は日本の首都です。我们今天去学校学习中文，天气很好。请问你叫什么名字？机器学习模型。
Привет, как дела? Это русский текст для проверки. Съешь же ещё этих мягких французских булок.
مرحبا بالعالم، كيف حالك اليوم؟ هذا نص عربي. 한국어 문장도 있습니다. 안녕하세요. नमस्ते दुनिया। Xin chào thế giới.
Größe, façade, naïve, coöperate, Ærøskøbing, Šťastný, İstanbul, ñandú. 🙂 🎉🎉 👍🏽 ❤️ ½ ² Ⅷ １２３
"""


def write_all(folder):
    """(name, path) of every vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens, merges = train_bpe()
    files = []
    for pre in BPE:
        files.append((f"{pre} (trained here)", write_bpe(folder / f"{pre}.gguf", pre, tokens, merges)))
    pieces = train_spm()
    for name, prefix in SPM.items():
        files.append((f"{name} (trained here)", write_spm(folder / f"{name}.gguf", pieces, prefix)))
    return files


def train_bpe():
    """Merges across what any pre-tokenizer would keep apart, so that a wrong split changes the ids."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(" ", "merged_with_next"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    trainer = trainers.BpeTrainer(vocab_size=1400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), min_frequency=1, show_progress=False)
    chunks = [CORPUS, CORPUS.upper(), "1234567890 123 12 1 99 000 2024 \n\n \n \t\t\n   x    y\r\n" * 3, "!!! ... ?! --- 'll 're 've 's 't 'd 'm" * 3]
    tokenizer.train_from_iterator(chunks, trainer)
    state = tokenizer.get_vocab()
    import json
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    merges = [m if isinstance(m, str) else " ".join(m) for m in merges]
    return sorted(state, key=state.get), merges


def train_spm():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=True)
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=900, min_frequency=1, show_progress=False)
    tokenizer.train_from_iterator([CORPUS.replace("\n", " ")], trainer)
    state = tokenizer.get_vocab()
    return [p for p in sorted(state, key=state.get) if p != "<unk>"]


def start(path):
    w = gguf.GGUFWriter(str(path), "llama")
    w.add_block_count(1)
    w.add_context_length(64)
    w.add_embedding_length(32)
    w.add_feed_forward_length(32)
    w.add_head_count(1)
    w.add_layer_norm_rms_eps(1e-5)
    return w


def finish(w, path):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return path


def write_bpe(path, pre, tokens, merges):
    w = start(path)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(pre)
    w.add_token_list(tokens + SPECIALS + USER_DEFINED)
    w.add_token_types([1] * len(tokens) + [3] * len(SPECIALS) + [4] * len(USER_DEFINED))
    w.add_token_merges(merges)
    w.add_bos_token_id(len(tokens))
    w.add_eos_token_id(len(tokens) + 2)
    return finish(w, path)


def write_spm(path, pieces, prefix):
    specials = ["<unk>", "<s>", "</s>"] + SPECIALS
    byte_tokens = [f"<0x{b:02X}>" for b in range(256)]
    tokens = specials + byte_tokens + USER_DEFINED + pieces
    types = [2] + [3] * (len(specials) - 1) + [6] * 256 + [4] * len(USER_DEFINED) + [1] * len(pieces)
    w = start(path)
    w.add_tokenizer_model("llama")
    w.add_token_list(tokens)
    w.add_token_scores([0.0] * (len(tokens) - len(pieces)) + [-float(i) for i in range(len(pieces))])
    w.add_token_types(types)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)
    w.add_add_space_prefix(prefix)
    return finish(w, path)
