#!/usr/bin/env bash
# Builds the native library for this machine, and runs the tests of the Kotlin library and of the sample with it: android/test.sh
#
# Needs cargo, a JDK from 17 on and Maven, which it installs with apt where they are missing. ATTUNE_LIBRARY names a native library that is built already,
# ATTUNE_PROFILE another profile than release. Further arguments go to Maven: android/test.sh -pl attune -Dtest=SessionTest
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
began=$SECONDS

need=()
command -v javac > /dev/null || need+=(openjdk-17-jdk-headless)
command -v mvn > /dev/null || need+=(maven)
if ((${#need[@]})); then
    echo "installing ${need[*]}"
    as=()
    [[ $(id -u) == 0 ]] || as=(sudo)
    "${as[@]}" apt-get update -qq
    "${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${need[@]}" > /dev/null
fi

library=${ATTUNE_LIBRARY:-}
if [[ -z $library ]]; then
    profile=${ATTUNE_PROFILE:-release}
    (cd "$here" && cargo build -q --profile "$profile" -p attune-jni)
    target=$(cd "$here" && cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
    library=$target/$profile/libattune_jni.so
fi
[[ -f $library ]] || { echo "$library: expected the native library, found nothing" >&2; exit 1; }
built=$SECONDS

rm -rf "$here"/*/target/surefire-reports
(cd "$here" && mvn -q -B -Dattune.library="$library" verify "$@")

# With -Xcheck:jni, what is wrong with a JNI call is said behind Maven's back.
if warned=$(grep -hs "Stream '.*WARNING" "$here"/*/target/surefire-reports/*.dumpstream); then
    printf 'android: the JVM warns of JNI calls:\n%s\n' "$warned" >&2
    exit 1
fi

ran=$(cat "$here"/*/target/surefire-reports/TEST-*.xml | sed -n 's/^<testsuite .* tests="\([0-9]*\)".*/\1/p' | awk '{ n += $1 } END { print n }')
echo "android: $ran tests passed; $((built - began)) s for the native library, $((SECONDS - built)) s for Maven"
