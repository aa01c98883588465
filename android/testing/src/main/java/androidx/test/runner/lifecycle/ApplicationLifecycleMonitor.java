package androidx.test.runner.lifecycle;

/** The little of this class that Robolectric needs. */
public interface ApplicationLifecycleMonitor {
}
