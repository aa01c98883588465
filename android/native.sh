#!/usr/bin/env bash
# The native library of the Android package, for each ABI: android/native.sh [ABI…], arm64-v8a, armeabi-v7a and x86_64 by default.
# Each is printed as "ABI PATH". Android 11 (API 30) and later load them; their segments are aligned to pages of 16 KiB.
#
# ANDROID_NDK_HOME names an NDK: its linker and its unwinder are used, and that is what an app ships. Without one, the libraries are linked
# against stand-ins for Android's own that have the symbols of android/native/bionic.txt. Such a library serves every check here (it even runs,
# see android/arm64.sh); a phone does not load it, because the unwinder is a libunwind.so there that phones do not have.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
api=30
target=$(cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
abis=("$@")
[[ $# -gt 0 ]] || abis=(arm64-v8a armeabi-v7a x86_64)

# What the linker is told, by rustc's name for it. Identical functions are folded, relocations packed.
flags=(--icf=all --no-undefined -O2 -zpack-relative-relocs -zmax-page-size=16384 -soname=libattune_jni.so)

# stand_ins TRIPLE FOLDER: libraries with the names and symbols of Android's, and nothing in them.
stand_ins() {
    local triple=$1 folder=$2 library
    mkdir -p "$folder"
    for library in libc libm libdl liblog libunwind; do
        {
            printf '#![no_std]\n#[panic_handler]\nfn panic(_: &core::panic::PanicInfo<'"'_"'>) -> ! {\n    loop {}\n}\n'
            sed -n "s/^$library \([A-Za-z0-9_]*\)\$/#[unsafe(no_mangle)]\npub extern \"C\" fn \1() {}/p" android/native/bionic.txt
        } > "$folder/$library.rs"
        rustc --edition 2024 --target "$triple" --crate-type cdylib -A warnings -C panic=abort -C linker=rust-lld -C linker-flavor=ld.lld \
            -C default-linker-libraries=no -C link-arg=-soname="$library.so" "$folder/$library.rs" -o "$folder/$library.so"
    done
}

for abi in "${abis[@]}"; do
    case $abi in
    arm64-v8a) triple=aarch64-linux-android clang=aarch64-linux-android ;;
    armeabi-v7a) triple=armv7-linux-androideabi clang=armv7a-linux-androideabi ;;
    x86_64) triple=x86_64-linux-android clang=x86_64-linux-android ;;
    *)
        echo "expected an ABI of arm64-v8a, armeabi-v7a and x86_64, found \"$abi\"" >&2
        exit 2
        ;;
    esac
    rustup target list --installed | grep -qx "$triple" || rustup target add "$triple" >&2
    upper=$(tr 'a-z-' 'A-Z_' <<< "$triple")
    if [[ -n ${ANDROID_NDK_HOME:-} ]]; then
        tools=$(echo "$ANDROID_NDK_HOME"/toolchains/llvm/prebuilt/*/bin)
        [[ -x $tools/$clang$api-clang ]] || { echo "expected $clang$api-clang in $tools, found none: is ANDROID_NDK_HOME an NDK of r23 or later?" >&2; exit 1; }
        linker=$tools/$clang$api-clang
        told="-C strip=symbols${flags[*]/#/ -C link-arg=-Wl,}"
    else
        folder=$target/android/stand-ins/$triple
        stand_ins "$triple" "$folder"
        linker=rust-lld
        told="-C linker-flavor=ld.lld -L native=$folder -C strip=symbols${flags[*]/#/ -C link-arg=}"
    fi
    # What panics say of where they come from names no folder of this machine.
    told+=" --remap-path-prefix=$PWD=attune --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}/registry/src="
    env "CARGO_TARGET_${upper}_LINKER=$linker" "CARGO_TARGET_${upper}_RUSTFLAGS=$told" \
        cargo rustc --quiet --profile dist -p attune-jni --lib --crate-type cdylib --target "$triple" >&2
    mkdir -p "$target/android/jni/$abi"
    cp "$target/$triple/dist/libattune_jni.so" "$target/android/jni/$abi/libattune_jni.so"
    echo "$abi $target/android/jni/$abi/libattune_jni.so"
done
