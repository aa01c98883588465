package androidx.test.runner.intent;

/** The little of this class that Robolectric needs. */
public final class IntentStubberRegistry {
    private IntentStubberRegistry() {}

    public static boolean isLoaded() {
        return false;
    }

    public static IntentStubber getInstance() {
        throw new IllegalStateException("No intent stubber registered!");
    }
}
