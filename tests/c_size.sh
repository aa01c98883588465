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
over=0
for triple in "${triples[@]}"; do
    budget=$(sed -n "s/^$triple //p" ffi/size-budget.txt)
    [[ -n $budget ]] || { echo "ffi/size-budget.txt: expected a line for $triple, found none" >&2; exit 1; }
    if [[ $triple == "$host" ]]; then
        ffi/install.sh "$folder/$triple" > /dev/null
    else
        export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=${CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER:-aarch64-linux-gnu-gcc}
        ATTUNE_TARGET=$triple ffi/install.sh "$folder/$triple" > /dev/null
    fi
    size=$(stat -c %s "$folder/$triple/lib/libattune.so")
    echo "$triple: $size bytes of $budget"
    (( size <= budget )) || over=1
done
(( over == 0 )) || { echo "the library is larger than its budget: make it smaller, or change ffi/size-budget.txt and say why" >&2; exit 1; }
