package androidx.test.runner.lifecycle;

/** The little of this class that Robolectric needs. */
public final class ApplicationLifecycleMonitorRegistry {
    private static ApplicationLifecycleMonitor monitor;

    private ApplicationLifecycleMonitorRegistry() {}

    public static void registerInstance(ApplicationLifecycleMonitor registered) {
        monitor = registered;
    }

    public static ApplicationLifecycleMonitor getInstance() {
        if (monitor == null) {
            throw new IllegalStateException("No lifecycle monitor registered!");
        }
        return monitor;
    }
}
