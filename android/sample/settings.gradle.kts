// How an Android Studio project of this sample begins. It has never been run by those who wrote it: their machines have no Gradle plugin for Android.
pluginManagement {
    repositories {
        google()
        mavenCentral()
    }
}
dependencyResolutionManagement {
    repositories {
        google()
        mavenCentral()
    }
}
rootProject.name = "attune-sample"
