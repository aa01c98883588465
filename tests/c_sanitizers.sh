#!/usr/bin/env bash
# The C programs of ffi/tests under valgrind and under the address sanitizer: nothing is read or written that was freed or never was, and nothing leaks.
# tests/c_sanitizers.sh [PROFILE] (release by default); ATTUNE_LIBRARIES names a folder with libattune_c.so that is built already. Kernels are those for AVX2 at most: valgrind knows no more.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
profile=${1:-release}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
libraries=${ATTUNE_LIBRARIES:-}
if [[ -z $libraries ]]; then
    cargo build --quiet --profile "$profile" -p attune-c --lib
    libraries=$(cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/$profile
fi
ln -s "$libraries/libattune_c.so" "$folder/libattune.so"
model=builtin/assets/attune-base.gguf
flags=(-std=c11 -g -O1 -Iffi/include -L"$folder" -Wl,-rpath,"$folder")

run() {
    local how=$1 program=$2
    shift 2
    mkdir "$folder/$how-$program"
    echo "== $how: $program"
    case $how in
    valgrind)
        cc "${flags[@]}" "ffi/tests/c/$program.c" -o "$folder/program" -lattune -lpthread
        valgrind --quiet --error-exitcode=9 --leak-check=full --show-leak-kinds=definite,indirect --errors-for-leak-kinds=definite,indirect \
            --suppressions=ffi/tests/c/valgrind.supp "$folder/program" "$model" "$@"
        ;;
    sanitizers)
        cc "${flags[@]}" -fsanitize=address,undefined -fno-sanitize-recover=all "ffi/tests/c/$program.c" -o "$folder/program" -lattune -lpthread
        ASAN_OPTIONS=detect_leaks=1 "$folder/program" "$model" "$@"
        ;;
    esac
}

if command -v valgrind > /dev/null; then
    run valgrind misuse
    run valgrind feedback "$folder/valgrind-feedback"
    run valgrind cycles 2
else
    echo "skipped: valgrind is not installed"
fi
run sanitizers misuse
run sanitizers work "$folder/sanitizers-work"
run sanitizers feedback "$folder/sanitizers-feedback"
run sanitizers threads
run sanitizers cycles 20
echo "nothing wrong was found"
