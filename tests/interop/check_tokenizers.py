"""Attune's token ids equal llama.cpp's: on vocabularies trained here, and on published ones where they are at hand."""

import json
import random

from programs import LlamaCpp
from vocabularies import SPECIALS, USER_DEFINED, write_all

SNIPPETS = [
    "the", "Hello", "WORLD", "it's", "IT'S", "we'll", "DON'T", "l'école", "naïve", "Größe", "x", "fox jumps", "camelCaseWord", "snake_case",
    "1", "12", "123", "1234", "12345678", "3.14", "1,000,000", "2024-11-22", "10:45", "0x1F", "７８９", "²", "½",
    ".", "...", "!!!", "?!", ", ", "; ", "()", "[]{}", "&&", "->", "======", "//", "#", "@user", "$5", "100%", "\"quoted\"", "'single'", "`code`",
    " ", "  ", "    ", "\t", "\t\t", "\n", "\n\n", "\n\n\n", "\r\n", " \n", "\n ", " \n \n", "\u00a0", "\u3000",
    "中文", "我们今天去学校", "天气很好。", "？", "日本語の", "カタカナ", "한국어", "Привет", "как дела", "مرحبا", "नमस्ते", "thế giới", "ไทย",
    "🙂", "🎉🎉", "👍🏽", "❤️", "👨‍👩‍👧", "e\u0301", "\u200b", "<s>", "</s>", "<unk>", "<0x41>", "\u2581",
    *SPECIALS, *USER_DEFINED,
]
TEXTS = 40
# deepseek-llm splits before "U+3000 to U+3002"; llama.cpp turns U+3000 into a vertical tab before it matches and misses
# it there, Hugging Face's tokenizers do not. Attune follows the latter.
LEFT_OUT = {"deepseek-llm (trained here)": "\u3000"}


def texts(seed):
    r = random.Random(seed)
    yield from ["", " ", "a", "\n", "Hello world", " leading", "trailing ", "  two  spaces  "]
    for _ in range(TEXTS):
        yield "".join(r.choice(SNIPPETS) + r.choice(["", "", " "]) for _ in range(r.randint(3, 40)))


def run(report, folder, attune, _oracle, shared):
    report.section("Tokenizers")
    files = write_all(folder / "vocabularies")
    published = shared / "data" / "tokenizers"
    if published.is_dir():
        files += [(path.name, path) for path in sorted(published.glob("*.gguf"))]
        files += [(path.name, path) for path in sorted((shared / "data" / "models").glob("*.gguf"))]
    else:
        report.skip(f"published vocabularies: no {published}")
    for seed, (name, path) in enumerate(files):
        with report.attempt(name):
            llama = LlamaCpp(path, vocabulary_only=True)
            left_out = LEFT_OUT.get(name)
            wanted = {t: llama.tokenize(t) for t in (t.replace(left_out, "") if left_out else t for t in texts(seed))}
            llama.close()
            report.true(f"{name}: llama.cpp tells texts apart", len({tuple(ids) for ids in wanted.values()}) >= len(wanted) - 2)
            if attune:
                compare(report, folder, attune, name, path, wanted)


def compare(report, folder, attune, name, path, wanted):
    wrong = []
    for text, ids in wanted.items():
        # bytes: a text file would turn \r\n into \n
        (folder / "text").write_bytes(text.encode())
        found = json.loads(attune.run("tokenize", "--model", path, "--file", folder / "text", "--json"))["ids"]
        if found != ids:
            wrong.append(f"{text!r}: expected {ids}, found {found}")
    report.true(f"{name}: {len(wanted)} texts give llama.cpp's ids", not wrong, f"{len(wrong)} differ" if wrong else "")
    for line in wrong[:3]:
        print(f"          {line[:600]}")
