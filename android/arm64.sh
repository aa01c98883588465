#!/usr/bin/env bash
# The arm64 library of the Android package at work: an arm64 JVM under qemu loads it, and tunes, answers, saves and reopens through Kotlin. The host's
# library does the same, and the adapters are compared: android/arm64.sh [PACKAGE.aar]
#
# Adapters are the same but for the last bits: with nothing rounded on the way, sums are still made in lanes, of which processors have 4, 8 or 16, and another
# order of adding rounds otherwise. On one processor they have the same bytes, always.
#
# Needs Debian's qemu-user-static, gcc-aarch64-linux-gnu and an arm64 Java; what is missing is installed where this runs as root, else the test is skipped.
# qemu stands in for the processor, and android/native/bionic.c for what differs in Android's C library. QCPU is qemu's processor, "max" by default.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=$(cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
work=$target/android/arm64
mkdir -p "$work"

tools() {
    local missing=()
    command -v qemu-aarch64-static > /dev/null || missing+=(qemu-user-static)
    command -v aarch64-linux-gnu-gcc > /dev/null || missing+=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
    for library in libstdc++.so.6 libz.so.1 libgcc_s.so.1 libc.so.6; do
        [[ -e /usr/lib/aarch64-linux-gnu/$library || -e /lib/aarch64-linux-gnu/$library ]] || missing+=(libstdc++6:arm64 zlib1g:arm64 libgcc-s1:arm64)
    done
    [[ -x $work/java/bin/java ]] || missing+=(java)
    [[ ${#missing[@]} -gt 0 ]] || return 0
    if [[ $(id -u) != 0 ]] || ! command -v apt-get > /dev/null; then
        echo "skipped: ${missing[*]} are missing, and only root can install them here"
        exit 0
    fi
    install "${missing[@]}" > "$work/install.log" 2>&1 || {
        tail -n 5 "$work/install.log"
        echo "skipped: ${missing[*]} could not be installed"
        exit 0
    }
}

install() {
    export DEBIAN_FRONTEND=noninteractive
    if ! dpkg --print-foreign-architectures | grep -qx arm64; then
        dpkg --add-architecture arm64 && apt-get -q update || return 1
    fi
    apt-cache show libc6:arm64 > /dev/null 2>&1 || apt-get -q update || return 1
    local package packages=()
    for package; do
        [[ $package == java ]] || packages+=("$package")
    done
    [[ ${#packages[@]} == 0 ]] || apt-get -q -y install --no-install-recommends "${packages[@]}" || return 1
    [[ -x $work/java/bin/java ]] || arm64_java
}

# An arm64 Java beside the host's own: the package is unpacked, not installed.
arm64_java() {
    local unpacked=$work/unpacked
    rm -rf "$unpacked" "$work/java"
    mkdir -p "$unpacked"
    (cd "$unpacked" && apt-get -q download openjdk-17-jre-headless:arm64 && dpkg-deb -x openjdk-*.deb .) || return 1
    # Its configuration is linked to by absolute paths.
    find "$unpacked/usr" -type l -lname '/etc/*' -print0 | while IFS= read -r -d '' link; do
        ln -sfn "$unpacked$(readlink "$link")" "$link"
    done
    ln -sfn "$(echo "$unpacked"/usr/lib/jvm/java-17-openjdk-arm64)" "$work/java"
}

tools
package=${1:-$target/android/attune.aar}
[[ -f $package ]] || { echo "expected a package, found none: run android/package.sh first" >&2; exit 1; }
rm -rf "$work/aar"
mkdir -p "$work/aar" "$work/bionic"
unzip -q "$package" -d "$work/aar"

# Libraries by the names that Android's have, with glibc's behind them. The first comes before glibc's own.
echo 'void nothing(void) {}' > "$work/nothing.c"
aarch64-linux-gnu-gcc -shared -fPIC -O1 -Wl,-soname,libc.so android/native/bionic.c -o "$work/bionic/libc.so"
for library in dl:-ldl m:-lm log: unwind:-lgcc_s; do
    # shellcheck disable=SC2086
    aarch64-linux-gnu-gcc -shared -fPIC -Wl,-soname,"lib${library%%:*}.so" -Wl,--no-as-needed "$work/nothing.c" -o "$work/bionic/lib${library%%:*}.so" ${library#*:}
done

# What the program needs besides the package's own classes.
classes=$work/aar/classes.jar:$target/android/attune-base.jar:android/attune/target/test-classes:$(cat "$target/android/classpath")
program=dev.attune.everywhere.EverywhereKt
host_library=$target/release/libattune_jni.so
[[ -f $host_library ]] || cargo build --quiet --release -p attune-jni

java -Dattune.library="$host_library" -cp "$classes" $program "$work/host" > "$work/host.txt"
qemu-aarch64-static -cpu "${QCPU:-max}" -E "LD_LIBRARY_PATH=$work/bionic" -E "LD_PRELOAD=$work/bionic/libc.so" "$work/java/bin/java" -Xmx512m -Xshare:off \
    -Dattune.library="$work/aar/jni/arm64-v8a/libattune_jni.so" -cp "$classes" $program "$work/arm64" > "$work/arm64.txt"
diff "$work/host.txt" "$work/arm64.txt"
python3 android/native/compare.py "$work/host" "$work/arm64"
cat "$work/arm64.txt"
echo "the arm64 library says the same as the host's, and learns the same"
