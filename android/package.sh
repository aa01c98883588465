#!/usr/bin/env bash
# Packs the Android library: android/package.sh [ABI…], for arm64-v8a, armeabi-v7a and x86_64 by default. What it makes lies in target/android:
#
#   attune.aar                 classes.jar, jni/ABI/libattune_jni.so, manifest, rules for R8
#   attune-base.jar            the small built-in model, for tests and first steps
#   attune-sources.jar         for the debugger
#   attune-docs.jar            KDoc as HTML (where ATTUNE_DOCS is not 0)
#   attune.pom                 what it depends on
#
# Needs cargo, a JDK from 17 on and Maven. ANDROID_NDK_HOME names the NDK that a package for phones needs: see android/native.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=$(cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
out=$target/android
mkdir -p "$out"

android/native.sh "$@" > "$out/natives.txt"
docs=()
[[ ${ATTUNE_DOCS:-1} == 0 ]] || docs=(-P docs)
(cd android && mvn -q -B -DskipTests ${docs[@]+"${docs[@]}"} -pl attune,base -am package dependency:build-classpath -DincludeScope=runtime -Dmdep.outputFile="$out/classpath" > "$out/maven.log") ||
    { cat "$out/maven.log" >&2; exit 1; }

aar=$out/aar
rm -rf "$aar" "$out/attune.aar"
mkdir -p "$aar/META-INF/com/android/build/gradle"
cp android/attune/src/main/AndroidManifest.xml "$aar/AndroidManifest.xml"
cp "android/attune/target/attune-$version.jar" "$aar/classes.jar"
cp android/attune/consumer-rules.pro "$aar/proguard.txt"
: > "$aar/R.txt"
printf 'aarFormatVersion=1.0\naarMetadataVersion=1.0\nminCompileSdk=1\nminAndroidGradlePluginVersion=1.0.0\n' \
    > "$aar/META-INF/com/android/build/gradle/aar-metadata.properties"
while read -r abi library; do
    mkdir -p "$aar/jni/$abi"
    cp "$library" "$aar/jni/$abi/"
done < "$out/natives.txt"
# The same bytes for the same contents.
find "$aar" -exec touch -t 198001010000 {} +
(cd "$aar" && find . -type f | LC_ALL=C sort | sed 's|^\./||' | zip -q -X -@ "$out/attune.aar")

cp "android/base/target/attune-base-$version.jar" "$out/attune-base.jar"
cp "android/attune/target/attune-$version-sources.jar" "$out/attune-sources.jar"
cat > "$out/attune.pom" <<POM
<?xml version="1.0" encoding="UTF-8"?>
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>dev.attune</groupId>
  <artifactId>attune-android</artifactId>
  <version>$version</version>
  <packaging>aar</packaging>
  <dependencies>
    <dependency>
      <groupId>org.jetbrains.kotlinx</groupId>
      <artifactId>kotlinx-coroutines-android</artifactId>
      <version>$(sed -n 's|.*<coroutines.version>\(.*\)</coroutines.version>.*|\1|p' android/pom.xml)</version>
    </dependency>
  </dependencies>
</project>
POM
if [[ ${ATTUNE_DOCS:-1} != 0 ]]; then
    rm -f "$out/attune-docs.jar"
    jar --create --file "$out/attune-docs.jar" -C android/attune/target/docs .
fi
ls -l "$out"/attune*.* | awk '{ print $5, $9 }'
[[ -n ${ANDROID_NDK_HOME:-} ]] || echo "linked without an NDK: for checks here, not for phones; set ANDROID_NDK_HOME for a package that ships" >&2
