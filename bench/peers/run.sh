#!/usr/bin/env bash
# Measures Attune and its peers in one run, on the same model files, threads and tokens, in turns.
#
#   bench/peers/run.sh [compare.py's options]        --quick: under three minutes
#
# The first run makes a Python environment under target/ (torch and a build of llama.cpp: some gigabytes, ten minutes).
# ATTUNE_PEERS_VENV names another place for it; ATTUNE_PEERS_LLAMA and ATTUNE_PEERS_TORCH name the Python of an environment that has
# llama-cpp-python, or torch, transformers and peft, already; ATTUNE another `attune` than the one built here.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
venv=${ATTUNE_PEERS_VENV:-$target/peers-venv}
llama=${ATTUNE_PEERS_LLAMA:-$venv/bin/python}
torch=${ATTUNE_PEERS_TORCH:-$venv/bin/python}

make_environment() {
    python3 -m venv "$venv"
    # llama.cpp for this very processor, as its own documentation advises. gcc before 13 drops stores before `_tile_loadconfig`, so that
    # llama.cpp built with it crashes where there are AMX tiles: clang builds it there.
    export CMAKE_ARGS="-DGGML_NATIVE=ON -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAVA_BUILD=OFF ${CMAKE_ARGS:-}"
    if grep -qs amx_tile /proc/cpuinfo && [ -z "${CC:-}" ]; then
        if ! command -v clang-19 >/dev/null; then
            echo "this processor has AMX tiles: expected clang-19 to build llama.cpp with (apt-get install clang-19 libomp-19-dev), found none" >&2
            exit 1
        fi
        export CC=clang-19 CXX=clang++-19
    fi
    nice "$venv/bin/pip" install -r "$here/requirements.txt"
}

if ! "$llama" -c 'import llama_cpp' 2>/dev/null || ! "$torch" -c 'import torch, transformers, peft' 2>/dev/null; then
    make_environment
fi
if [ -z "${ATTUNE:-}" ]; then
    (cd "$root" && cargo build --release -p attune-cli)
    ATTUNE=$target/release/attune
fi
export PYTHONDONTWRITEBYTECODE=1
exec python3 "$here/compare.py" --attune "$ATTUNE" --llama-python "$llama" --torch-python "$torch" "$@"
