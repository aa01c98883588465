package androidx.test.runner.lifecycle;

/** The little of this class that Robolectric needs. */
public final class ActivityLifecycleMonitorRegistry {
    private static ActivityLifecycleMonitor monitor;

    private ActivityLifecycleMonitorRegistry() {}

    public static void registerInstance(ActivityLifecycleMonitor registered) {
        monitor = registered;
    }

    public static ActivityLifecycleMonitor getInstance() {
        if (monitor == null) {
            throw new IllegalStateException("No lifecycle monitor registered!");
        }
        return monitor;
    }
}
