// For readers, and not run here: see settings.gradle.kts. Maven compiles the same sources, and tests click through them.
plugins {
    id("com.android.application") version "8.7.3"
    id("org.jetbrains.kotlin.android") version "2.2.20"
}

android {
    namespace = "dev.attune.sample"
    compileSdk = 35
    defaultConfig {
        applicationId = "dev.attune.sample"
        minSdk = 30
        targetSdk = 35
        versionCode = 1
        versionName = "1"
    }
    sourceSets["main"].kotlin.srcDir("src/main/kotlin")
    // A model among the assets can be mapped only where it is not compressed.
    androidResources { noCompress += "gguf" }
}

kotlin { jvmToolchain(17) }

dependencies {
    implementation(files("libs/attune.aar"))
    implementation(files("libs/attune-base.jar"))
    implementation("org.jetbrains.kotlinx:kotlinx-coroutines-android:1.10.2")
}
