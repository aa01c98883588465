#!/bin/bash
# Builds core's and the processor target's tests for AArch64 and runs them on three emulated processors: one with NEON alone, one with FEAT_DotProd, one with
# FEAT_I8MM. Kernels that a processor lacks are named in the output, and each run says which instruction sets it expects.
#
#   tests/aarch64/run.sh [FILTER]      FILTER: only tests whose names contain it
#
# Needs the Rust target aarch64-unknown-linux-gnu, aarch64-linux-gnu-gcc and qemu-aarch64 (Debian: gcc-aarch64-linux-gnu, qemu-user-static). Without them it
# says so and ends with 0; with ATTUNE_REQUIRE_AARCH64=1, as in continuous integration, it ends with 1.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=aarch64-unknown-linux-gnu

skip() {
    echo "skipped: tests on AArch64, since $1 is missing"
    exit "${ATTUNE_REQUIRE_AARCH64:-0}"
}
qemu=$(command -v qemu-aarch64-static || command -v qemu-aarch64) || skip qemu-aarch64
command -v aarch64-linux-gnu-gcc >/dev/null || skip aarch64-linux-gnu-gcc
[ -d "$(rustc --print sysroot)/lib/rustlib/$target" ] || skip "Rust's target $target"

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=${CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER:-aarch64-linux-gnu-gcc}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! cargo test --release --target $target -p attune-core -p attune-cpu --lib --tests --no-run 2>"$log"; then
    cat "$log"
    exit 1
fi
mapfile -t programs < <(sed -n 's/^ *Executable .*(\(.*\))$/\1/p' "$log")
[ ${#programs[@]} -gt 0 ] || { echo "cargo built no tests"; cat "$log"; exit 1; }

failed=0
run() { # a processor and the instruction sets that it has
    for program in "${programs[@]}"; do
        name=$(basename "${program%-*}")
        # Without a harness a test takes no filter and no options.
        options=("${@:3}" --nocapture)
        [ "$name" = no_alloc ] && { [ $# -gt 2 ] && continue; options=(); }
        if ! ATTUNE_EXPECT_ISA=$2 "$qemu" -L /usr/aarch64-linux-gnu -cpu "$1" "$program" "${options[@]}" >"$log" 2>&1; then
            echo "$1: $name FAILED"
            cat "$log"
            failed=1
        fi
        # Kernels of other architectures are missing everywhere.
        grep -h "^skipped" "$log" | grep -v -e avx -e amx | sort -u | sed "s/^/$1: $name: /" || true
        echo "$1: $name: $(grep -h "^test result" "$log" || echo ran)"
    done
}
run cortex-a72 neon "$@"
run cortex-a76 neon,dotprod "$@"
run max neon,dotprod,i8mm "$@"
exit $failed
