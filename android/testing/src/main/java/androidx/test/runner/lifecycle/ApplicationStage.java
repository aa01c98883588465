package androidx.test.runner.lifecycle;

/** The little of this class that Robolectric needs. */
public enum ApplicationStage {
    PRE_ON_CREATE, CREATED
}
