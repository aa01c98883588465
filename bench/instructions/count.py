#!/usr/bin/env python3
"""Instructions per multiply-add of the AArch64 kernels, and next to them llama.cpp's, counted by an emulator.

    bench/instructions/count.py [--isa dotprod] [--type Q4_0] [--llama FOLDER]

qemu-user says which instruction it runs (`-singlestep -d exec`), so that counts are exact and the same on every machine. What counts is the difference
between a product with some rows of weights and one with twice as many, each run once and three times: setting up, rounding activations and
whatever else does not grow with the weights cancels out. What remains holds everything that a multiply-add costs: loads, unpacking, scales, loops.

- `decode`: one token, weights in the file's layout (`fast`: activations of 8 bits; `f32` for the float types).
- `prefill`: 64 tokens, forward; panels are decoded once for all of them and that is counted too.
- `backward`: 64 tokens, `dY · W` in f32.

`--llama` takes the unpacked source of llama.cpp (or of llama-cpp-python, which holds it in vendor/llama.cpp): its functions for the same types are compiled
into a temporary folder with aarch64-linux-gnu-gcc -O3 and counted likewise: `vec_dot` on the file's layout, and gemv and gemm on its repacked copy.

Needs the Rust target aarch64-unknown-linux-gnu, aarch64-linux-gnu-gcc and qemu-aarch64 (Debian: gcc-aarch64-linux-gnu, qemu-user-static); says what is
missing and ends with 0 where it is.
"""
import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = "aarch64-unknown-linux-gnu"
FLOATS = ["F32", "F16", "BF16"]
QUANTISED = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"]
ISAS = ["neon", "dotprod", "i8mm"]
COLS = 512


def count(qemu, program, arguments):
    """Instructions that a run takes."""
    command = [qemu, "-L", "/usr/aarch64-linux-gnu", "-cpu", "max", "-singlestep", "-d", "exec,nochain", "-D", "/dev/stderr", program]
    run = subprocess.Popen([*command, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    lines = sum(line.startswith(b"Trace") for line in run.stderr)
    if run.wait() != 0:
        sys.exit(f"{program} {arguments} ended with {run.returncode}")
    return lines


def difference(qemu, program, arguments, rows):
    """Instructions of one product with `rows` more rows of weights."""
    once = lambda n: (count(qemu, program, [*arguments(n), 3]) - count(qemu, program, [*arguments(n), 1])) / 2
    return once(2 * rows) - once(rows)


def ours(qemu, program, isa, what, ty):
    tokens, rows = (1, 32) if what == "decode" else (64, 16)
    fast = "f32" if ty in FLOATS or what == "backward" else "fast"
    if isa == "neon" and what == "prefill":
        fast = "f32"
    direction = "backward" if what == "backward" else "forward"
    total = difference(qemu, program, lambda n: [isa, direction, fast, ty, tokens, n, COLS], rows)
    return total / (tokens * rows * COLS)


def build():
    linker = os.environ.get("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc")
    environment = {**os.environ, "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER": linker}
    command = ["cargo", "build", "--release", "--quiet", "-p", "attune-cpu", "--example", "instructions", "--target", TARGET]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    folder = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return str(folder / TARGET / "release/examples/instructions")


def peers(source, folder, isas):
    """llama.cpp's kernels and a main of ours, for each of the instruction sets."""
    ggml = next((p for p in [source / "ggml", source / "vendor/llama.cpp/ggml"] if p.is_dir()), None)
    if ggml is None:
        sys.exit(f"{source} holds no ggml: pass the unpacked source of llama.cpp or llama-cpp-python")
    cpu = ggml / "src/ggml-cpu"
    march = {"neon": "armv8-a", "dotprod": "armv8.2-a+dotprod+fp16", "i8mm": "armv8.6-a+dotprod+i8mm+fp16"}
    programs = {}
    for isa, architecture in ((isa, march[isa]) for isa in isas):
        flags = [f"-I{ggml}/src", f"-I{ggml}/include", f"-I{cpu}", "-DNDEBUG", "-D_GNU_SOURCE", "-O3", f"-march={architecture}", "-w"]
        objects = []
        for i, file in enumerate([cpu / "arch/arm/quants.c", cpu / "quants.c", ggml / "src/ggml-quants.c", cpu / "arch/arm/repack.cpp",
                                  cpu / "repack.cpp", HERE / "llama.cpp"]):
            compiler = ["aarch64-linux-gnu-gcc", "-std=c11"] if file.suffix == ".c" else ["aarch64-linux-gnu-g++", "-std=c++17"]
            objects.append(f"{folder}/{isa}-{i}.o")
            subprocess.run([*compiler, *flags, "-c", str(file), "-o", objects[-1]], check=True)
        programs[isa] = f"{folder}/{isa}"
        link = ["aarch64-linux-gnu-g++", "-static", *objects, "-o", programs[isa], "-Wl,--unresolved-symbols=ignore-all"]
        subprocess.run(link, check=True)
    return programs


# llama.cpp's functions of a type: on the file's layout, and on repacked weights for dotprod and for i8mm.
LLAMA = {
    "Q8_0": ("q8_0_q8_0", "q8_0_4x4_q8_0", "q8_0_4x8_q8_0"),
    "Q4_0": ("q4_0_q8_0", "q4_0_4x4_q8_0", "q4_0_4x8_q8_0"),
    "Q4_1": ("q4_1_q8_1", None, None),
    "Q5_0": ("q5_0_q8_0", None, None),
    "Q5_1": ("q5_1_q8_1", None, None),
    "Q4_K": ("q4_K_q8_K", "q4_K_8x4_q8_K", "q4_K_8x8_q8_K"),
    "Q5_K": ("q5_K_q8_K", "q5_K_8x4_q8_K", "q5_K_8x8_q8_K"),
    "Q6_K": ("q6_K_q8_K", "q6_K_8x4_q8_K", "q6_K_8x8_q8_K"),
}
# Types whose vec_dot takes two rows and two tokens at once with i8mm.
TWO_BY_TWO = ["Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q6_K"]


def theirs(qemu, programs, isa, what, ty):
    """vec_dot on the file's layout, and the repacked kernel; None where there is none."""
    dot, *repacked = LLAMA[ty]
    repacked = {"neon": None, "dotprod": repacked[0], "i8mm": repacked[1]}[isa]
    at_once = 2 if what == "prefill" and isa == "i8mm" and ty in TWO_BY_TWO else 1
    plain = difference(qemu, programs[isa], lambda n: ["dot", dot, n, at_once, COLS], 8) / (8 * at_once * COLS)
    if repacked is None:
        return plain, None
    kind, tokens = ("gemv", 1) if what == "decode" else ("gemm", 16)
    return plain, difference(qemu, programs[isa], lambda n: [kind, repacked, n, tokens, COLS], 16) / (16 * tokens * COLS)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--isa", action="append", choices=ISAS)
    parser.add_argument("--type", action="append", choices=FLOATS + QUANTISED)
    parser.add_argument("--llama", type=pathlib.Path, metavar="FOLDER")
    options = parser.parse_args()
    qemu = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if qemu is None or shutil.which("aarch64-linux-gnu-gcc") is None:
        print("skipped: instruction counts need qemu-aarch64 and aarch64-linux-gnu-gcc")
        return
    program = build()
    with tempfile.TemporaryDirectory() as folder:
        programs = peers(options.llama, folder, options.isa or ISAS) if options.llama else None
        print("instructions per multiply-add" + (" (llama.cpp: vec_dot / repacked)" if programs else ""))
        print(f"{'':10}{'':6}{'decode':>8}{'':16}{'prefill':>8}{'':16}{'backward':>9}")
        for isa in options.isa or ISAS:
            for ty in options.type or (FLOATS if isa == "neon" else []) + QUANTISED:
                line = f"{isa:10}{ty:6}"
                for what in ["decode", "prefill"]:
                    line += f"{ours(qemu, program, isa, what, ty):8.3f}"
                    peer = theirs(qemu, programs, isa, what, ty) if programs and ty in LLAMA else (None, None)
                    line += f"{'  (' + ' / '.join('-' if p is None else f'{p:.3f}' for p in peer) + ')' if programs else '':16}"
                # The same in f32 whatever the instruction set.
                line += f"{ours(qemu, program, isa, 'backward', ty):9.3f}" if isa == "neon" else f"{'as neon':>9}"
                print(line, flush=True)


if __name__ == "__main__":
    main()
