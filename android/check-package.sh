#!/usr/bin/env bash
# What is in the Android package, and what must not be: android/check-package.sh [attune.aar]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=$(cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
package=${1:-$target/android/attune.aar}
[[ -f $package ]] || { echo "$package: expected a package, found nothing: run android/package.sh" >&2; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unzip -q "$package" -d "$folder/aar"
unzip -q "$folder/aar/classes.jar" -d "$folder/classes"
wrong=0
fail() { echo "wrong: $*" >&2; wrong=1; }

for file in AndroidManifest.xml classes.jar proguard.txt R.txt META-INF/com/android/build/gradle/aar-metadata.properties; do
    [[ -e $folder/aar/$file ]] || fail "the package has no $file"
done
grep -q 'package="dev.attune"' "$folder/aar/AndroidManifest.xml" || fail "AndroidManifest.xml does not name the package"
minimum=$(sed -n 's/.*minSdkVersion="\([0-9]*\)".*/\1/p' "$folder/aar/AndroidManifest.xml")
linked=$(sed -n 's/^api=//p' android/native.sh)
(( minimum >= linked )) || fail "the manifest allows Android API $minimum, the libraries need $linked"
[[ -f $folder/classes/dev/attune/Model.class ]] || fail "classes.jar has no dev.attune.Model"
others=$(cd "$folder/classes" && find . -name '*.class' ! -path './dev/attune/*' | head -n 3)
[[ -z $others ]] || fail "classes.jar has classes of others: $others"
tests=$(cd "$folder/classes" && find . -name '*Test*.class' -o -path './androidx/*' -name '*.class' | head -n 3)
[[ -z $tests ]] || fail "classes.jar has classes of tests: $tests"
# What is looked up by name must survive R8.
while read -r kept; do
    ls "$folder/classes/${kept//.//}".class > /dev/null 2>&1 || fail "proguard.txt keeps $kept, which is not there"
done < <(sed -n 's/^-keep class \([A-Za-z.]*\) .*/\1/p' "$folder/aar/proguard.txt")

found=0
for library in "$folder"/aar/jni/*/libattune_jni.so; do
    [[ -e $library ]] || continue
    found=$((found + 1))
    abi=$(basename "$(dirname "$library")")
    size=$(stat -c %s "$library")
    budget=$(sed -n "s/^$abi //p" ffi/size-budget.txt)
    [[ -n $budget ]] || { fail "ffi/size-budget.txt has no line for $abi"; continue; }
    echo "$abi: $size bytes of $budget"
    (( size <= budget )) || fail "$abi is larger than its budget: make it smaller, or change ffi/size-budget.txt and say why"
    case $abi in
    arm64-v8a) machine=AArch64 ;;
    armeabi-v7a) machine=ARM ;;
    x86_64) machine='Advanced Micro Devices X86-64' ;;
    esac
    readelf -h "$library" | grep -q "Machine: *$machine\$" || fail "$abi: not for $machine"
    # Android 15 has pages of 16 KiB: every segment must begin at a multiple of that, in the file as in memory.
    while read -r offset address alignment; do
        (( alignment >= 16384 && (offset - address) % 16384 == 0 )) || fail "$abi: a segment is aligned to $alignment bytes"
    done < <(readelf -lW "$library" | awk '$1 == "LOAD" { print $2, $3, $NF }')
    needed=$(readelf -dW "$library" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | LC_ALL=C sort | tr '\n' ' ')
    for name in $needed; do
        case $name in
        libc.so | libm.so | libdl.so | liblog.so) ;;
        libunwind.so) [[ -z ${ANDROID_NDK_HOME:-} ]] || fail "$abi: needs libunwind.so, which phones do not have"
            echo "$abi: linked without an NDK; for checks alone" ;;
        *) fail "$abi: needs $name" ;;
        esac
    done
    readelf -SW "$library" | grep -Eq ' \.(symtab|debug_)' && fail "$abi: not stripped"
    exported=$(nm -D --defined-only "$library" | awk '{ print $3 }')
    grep -qx JNI_OnLoad <<< "$exported" || fail "$abi: no JNI_OnLoad"
    foreign=$(grep -Evx 'JNI_OnLoad|attune_[a-z_0-9]+' <<< "$exported" | head -n 5 || true)
    [[ -z $foreign ]] || fail "$abi: exports $foreign"
    # Neither tests nor the paths of the machine that built it.
    strings -n 8 "$library" > "$folder/strings"
    ! grep -Eq 'libtest|test result:|proptest' "$folder/strings" || fail "$abi: has something of tests"
    ! grep -q "$HOME/" "$folder/strings" || fail "$abi: names folders of the machine that built it: $(grep -m 1 "$HOME/" "$folder/strings")"
done
(( found > 0 )) || fail "the package has no native library"
(( wrong == 0 )) || exit 1
echo "the package is as it should be"
