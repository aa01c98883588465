#!/usr/bin/env bash
# README's "From C", followed literally in a clean folder: the library is installed, and a C, a CMake and a C++ project find it the usual way.
# Prefix of a library that is installed already: tests/c_project.sh [PREFIX]
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
prefix=${1:-}

# The commands between the marks in README.md, as they stand there, in a folder that looks like a clone, by a user whose home is empty.
cd "$folder"
ln -s "$repository"/* .
mkdir home
tests/readme_steps.sh "from C" > steps.sh
grep -q pkg-config steps.sh || { echo "README.md has no steps" >&2; exit 1; }
if [[ -n $prefix ]]; then
    ln -s "$(realpath "$prefix")" home/attune
    sed -i '/^ffi\/install.sh/d' steps.sh
fi
export CARGO_HOME=${CARGO_HOME:-$HOME/.cargo} RUSTUP_HOME=${RUSTUP_HOME:-$HOME/.rustup} HOME=$folder/home
prefix=$HOME/attune
said=$(bash -euo pipefail steps.sh 2>&1) || { echo "README.md's steps failed: $said" >&2; exit 1; }
grep -qx 'The capital of Portugal is Lisbon.' <<< "$said" || { echo "unexpected: $said" >&2; exit 1; }
echo "pkg-config: $(tail -n 1 <<< "$said")"

# The static library, by pkg-config's word.
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
cc ffi/examples/tune.c -o static -I"$(pkg-config --variable=includedir attune)" "$(pkg-config --variable=libdir attune)/libattune.a" -lpthread -ldl -lm -lrt -lgcc_s
./static "$(pkg-config --variable=model attune)" adapter.attune | tail -n 1

if command -v cmake > /dev/null; then
    mkdir project
    cat > project/CMakeLists.txt <<'CMAKE'
cmake_minimum_required(VERSION 3.16)
project(app LANGUAGES C CXX)
find_package(attune REQUIRED)
add_executable(app ../ffi/examples/tune.c)
target_link_libraries(app PRIVATE attune::attune)
add_executable(app_static ../ffi/examples/tune.c)
target_link_libraries(app_static PRIVATE attune::static)
add_executable(app_cpp app.cpp)
set_target_properties(app_cpp PROPERTIES CXX_STANDARD 17)
target_link_libraries(app_cpp PRIVATE attune::attune)
file(WRITE "${CMAKE_BINARY_DIR}/model" "${ATTUNE_MODEL}")
CMAKE
    cat > project/app.cpp <<'CPP'
#include <attune.hpp>
#include <cstdio>

int main(int, char **argv) {
    attune::Model model(argv[1]);
    attune::Session session(model);
    session.complete("The capital of France is", attune::generate_options(), [](std::string_view text) {
        std::printf("%.*s", int(text.size()), text.data());
        return true;
    });
}
CPP
    cmake -S project -B build -DCMAKE_PREFIX_PATH="$prefix" > cmake.log || { cat cmake.log >&2; exit 1; }
    cmake --build build >> cmake.log || { cat cmake.log >&2; exit 1; }
    for program in app app_static; do
        "build/$program" "$(cat build/model)" adapter.attune | tail -n 1
    done
    build/app_cpp "$(cat build/model)" > /dev/null
else
    echo "skipped: cmake is not installed"
fi
echo "C projects find the library"
