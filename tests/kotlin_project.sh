#!/usr/bin/env bash
# README's "From Kotlin", followed literally in a clean folder: the library is put into Maven's own repository, and a project of its own tunes with it.
# A native library that is built already: ATTUNE_LIBRARY=libattune_jni.so tests/kotlin_project.sh
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
command -v mvn > /dev/null || { echo "skipped: Maven is not installed"; exit 0; }

library=${ATTUNE_LIBRARY:+$(realpath "$ATTUNE_LIBRARY")}

# The commands between the marks in README.md, as they stand there, in a folder that looks like a clone.
cd "$folder"
ln -s "$repository"/* .
rm -f target
tests/readme_steps.sh "from Kotlin" > steps.sh
grep -q exec:java steps.sh || { echo "README.md has no steps" >&2; exit 1; }
if [[ -n $library ]]; then
    mkdir -p target/release
    ln -s "$library" target/release/libattune_jni.so
    sed -i '/^cargo build/d' steps.sh
else
    export CARGO_TARGET_DIR=$folder/target
fi
said=$(bash -euo pipefail steps.sh 2>&1) || { echo "README.md's steps failed: $said" >&2; exit 1; }
grep -qx 'The capital of Portugal is Lisbon.' <<< "$said" || { echo "unexpected: $said" >&2; exit 1; }
echo "a Kotlin project finds the library: The capital of Portugal is Lisbon."
