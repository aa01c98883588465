package androidx.test.runner.lifecycle;

/** The little of this class that Robolectric needs. */
public enum Stage {
    PRE_ON_CREATE, CREATED, STARTED, RESUMED, PAUSED, STOPPED, RESTARTED, DESTROYED
}
