#!/bin/sh
# Types README's commands about feedback, preferences and rewards as they stand, in an empty folder. Usage: tests/readme.sh ATTUNE [FOLDER]
# It takes some minutes; FOLDER, where it is given, stays.
set -eu
attune=$(realpath "$1")
tests=$(realpath "$(dirname "$0")")
folder=${2:-$(mktemp -d)}
mkdir -p "$folder/bin" && cd "$folder"
[ -n "${2:-}" ] || trap 'rm -rf "$folder"' EXIT
ln -sf "$attune" bin/attune
"$tests/readme_steps.sh" walk > steps.sh
# What a person types at the question of `rank`.
printf 'b a\n/quit\n' | PATH="$folder/bin:$PATH" sh -eux steps.sh
