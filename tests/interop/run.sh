#!/usr/bin/env bash
# Checks Attune's files and numbers against transformers, PEFT and llama.cpp.
#
#   tests/interop/run.sh [check.py's options]
#
# The first run makes a Python environment under target/ (torch and a build of llama.cpp: some gigabytes, ten
# minutes). ATTUNE_INTEROP_VENV names another place for it, ATTUNE another `attune` than the one built here.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
venv=${ATTUNE_INTEROP_VENV:-$target/interop-venv}

if ! "$venv/bin/python" -c 'import gguf, llama_cpp, peft, torch, transformers' 2>/dev/null; then
    python3 -m venv "$venv"
    export CMAKE_ARGS="-DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAVA_BUILD=OFF ${CMAKE_ARGS:-}"
    nice "$venv/bin/pip" install -r "$here/requirements.txt"
fi

if [ -z "${ATTUNE:-}" ]; then
    (cd "$root" && cargo build --release -p attune-cli)
    ATTUNE=$target/release/attune
fi
(cd "$root" && cargo build --release -p attune-candle --example logprobs)
export PYTHONDONTWRITEBYTECODE=1
exec "$venv/bin/python" "$here/check.py" --attune "$ATTUNE" --oracle "$target/release/examples/logprobs" "$@"
