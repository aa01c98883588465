#!/usr/bin/env bash
# The stripped shared library stays within ffi/size-budget.txt. tests/c_size.sh [TRIPLE…]: the host's platform by default, and
# aarch64-unknown-linux-gnu where Rust and a linker for it are installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
triples=("$@")
if [[ $# == 0 ]]; then
    triples=("$host")
    arm=aarch64-unknown-linux-gnu
    if [[ $host != "$arm" ]] && rustup target list --installed 2> /dev/null | grep -qx "$arm" && command -v aarch64-linux-gnu-gcc > /dev/null; then
        triples+=("$arm")
    else
        echo "skipped: $arm is not installed"
    fi
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
target=$(cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
over=0
for triple in "${triples[@]}"; do
    budget=$(sed -n "s/^$triple //p" ffi/size-budget.txt)
    [[ -n $budget ]] || { echo "ffi/size-budget.txt: expected a line for $triple, found none" >&2; exit 1; }
    strip=strip
    if [[ $triple == aarch64-unknown-linux-gnu && $triple != "$host" ]]; then
        export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=${CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER:-aarch64-linux-gnu-gcc}
        strip=aarch64-linux-gnu-strip
    fi
    if [[ $triple == "$host" ]]; then
        cargo build --quiet --profile dist -p attune-c --lib
        built=$target/dist
    else
        cargo build --quiet --profile dist -p attune-c --lib --target "$triple"
        built=$target/$triple/dist
    fi
    "$strip" -o "$folder/lib.so" "$built/libattune_c.so"
    size=$(stat -c %s "$folder/lib.so")
    echo "$triple: $size bytes of $budget"
    (( size <= budget )) || over=1
done
(( over == 0 )) || { echo "the library is larger than its budget: make it smaller, or change ffi/size-budget.txt and say why" >&2; exit 1; }
