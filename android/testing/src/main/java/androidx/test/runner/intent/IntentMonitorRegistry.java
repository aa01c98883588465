package androidx.test.runner.intent;

/** The little of this class that Robolectric needs. */
public final class IntentMonitorRegistry {
    private static IntentMonitor monitor;

    private IntentMonitorRegistry() {}

    public static void registerInstance(IntentMonitor registered) {
        monitor = registered;
    }

    public static IntentMonitor getInstance() {
        return monitor;
    }
}
