package androidx.test.runner.intent;

/** The little of this class that Robolectric needs. */
public interface IntentStubber {
}
