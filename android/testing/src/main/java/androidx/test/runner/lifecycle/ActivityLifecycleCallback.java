package androidx.test.runner.lifecycle;

import android.app.Activity;

/** The little of this class that Robolectric needs. */
public interface ActivityLifecycleCallback {
    void onActivityLifecycleChanged(Activity activity, Stage stage);
}
