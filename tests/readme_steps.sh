#!/bin/sh
# The commands between two marks in README.md, as they stand there: tests/readme_steps.sh MARK
set -eu
readme=$(dirname "$0")/../README.md
steps=$(sed -n "/<!-- $1: begin -->/,/<!-- $1: end -->/p" "$readme" | sed -n '/^```sh$/,/^```$/p' | grep -v '^```') || steps=
[ -n "$steps" ] || { echo "README.md has no steps between the marks \"$1\"" >&2; exit 1; }
printf '%s\n' "$steps"
