#!/usr/bin/env bash
# Puts the C library where C projects look for it: ffi/install.sh PREFIX
#
#   PREFIX/include/attune.h, attune.hpp        PREFIX/lib/libattune.so, libattune.a
#   PREFIX/lib/pkgconfig/attune.pc             PREFIX/lib/cmake/attune
#   PREFIX/share/attune/attune-base.gguf       a small model to try things with
#
# DESTDIR is put in front of all of them, for packages. ATTUNE_PROFILE names another profile than dist (release builds faster and is larger),
# ATTUNE_LIBRARIES a folder with libraries that are built already, ATTUNE_TARGET another platform's triple.
set -euo pipefail
[[ $# == 1 ]] || { echo "usage: ffi/install.sh PREFIX" >&2; exit 2; }
case ${DESTDIR:-}$1 in
*[[:space:]\|\&\\]*) echo "expected a prefix without blanks and without any of | & \\, which pkg-config's files cannot hold, found \"$1\"" >&2; exit 2 ;;
esac
mkdir -p "${DESTDIR:-}$1"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
prefix=$(cd "${DESTDIR:-}$1" && pwd)
named=${DESTDIR:+$1}
named=${named:-$prefix}
profile=${ATTUNE_PROFILE:-dist}
libraries=${ATTUNE_LIBRARIES:-}
if [[ -z $libraries ]]; then
    target=(${ATTUNE_TARGET:+--target "$ATTUNE_TARGET"})
    # Functions with the same code are one, where Rust has its own linker for it.
    told=()
    lld=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/gcc-ld
    if [[ -x $lld/ld.lld && ${ATTUNE_TARGET:-linux} == *linux* ]]; then
        for flag in -fuse-ld=lld "-B$lld" -Wl,--icf=all; do
            told+=(-C "link-arg=$flag")
        done
    fi
    (cd "$here" && cargo rustc --profile "$profile" -p attune-c --lib ${target[@]+"${target[@]}"} -- ${told[@]+"${told[@]}"})
    built=$(cd "$here" && cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
    libraries=$built${ATTUNE_TARGET:+/$ATTUNE_TARGET}/$profile
fi
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$here/../Cargo.toml")

mkdir -p "$prefix"/{include,lib/pkgconfig,lib/cmake/attune,share/attune}
install -m 644 "$here/include/attune.h" "$here/include/attune.hpp" "$prefix/include/"
install -m 755 "$libraries/libattune_c.so" "$prefix/lib/libattune.so"
install -m 644 "$libraries/libattune_c.a" "$prefix/lib/libattune.a"
strip=strip
[[ ${ATTUNE_TARGET:-} == aarch64-unknown-linux-gnu ]] && strip=aarch64-linux-gnu-strip
"$strip" "$prefix/lib/libattune.so"
"$strip" --strip-debug "$prefix/lib/libattune.a"
install -m 644 "$here/../builtin/assets/attune-base.gguf" "$prefix/share/attune/"
fill() { sed -e "s|@PREFIX@|$named|g" -e "s|@VERSION@|$version|g" -e "s|@SHARED_SUFFIX@|.so|g" "$here/package/$1.in" > "$2/$1"; }
fill attune.pc "$prefix/lib/pkgconfig"
fill attune-config.cmake "$prefix/lib/cmake/attune"
fill attune-config-version.cmake "$prefix/lib/cmake/attune"
echo "installed into $prefix"
