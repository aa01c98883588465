package dev.attune.sample

import android.app.job.JobScheduler
import android.view.View
import android.widget.Button
import android.widget.LinearLayout
import android.widget.TextView
import dev.attune.Feedback
import dev.attune.Learn
import kotlinx.coroutines.runBlocking
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.shadows.ShadowLooper

@RunWith(RobolectricTestRunner::class)
class ChatActivityTest {
    private fun await(what: String, done: () -> Boolean) {
        repeat(3000) {
            ShadowLooper.idleMainLooper()
            if (done()) return
            Thread.sleep(10)
        }
        throw AssertionError("expected $what")
    }

    private fun ChatActivity.views(): List<View> = List(lines.childCount) { lines.getChildAt(it) }

    private fun ChatActivity.texts(): List<String> = views().filterIsInstance<TextView>().map { it.text.toString() }

    private fun ChatActivity.thumbs(): List<LinearLayout> = views().filterIsInstance<LinearLayout>()

    private fun ChatActivity.ask(text: String): String {
        val rated = thumbs().size
        input.setText(text)
        send.performClick()
        await("an answer to $text") { thumbs().size > rated }
        return texts().last()
    }

    @Test
    fun a_person_asks_rates_and_teaches() {
        val controller = Robolectric.buildActivity(ChatActivity::class.java).setup()
        val activity = controller.get()
        val jobs = checkNotNull(activity.getSystemService(JobScheduler::class.java)).allPendingJobs
        assertEquals(NightlyTuning::class.java.name, jobs.single().service.className)

        val first = activity.ask("What does a cow say?")
        assertTrue(first, first.isNotEmpty() && first != "…")
        assertEquals("You: What does a cow say?", activity.texts().first())
        (activity.thumbs().single().getChildAt(0) as Button).performClick()
        assertEquals(View.GONE, activity.thumbs().single().visibility)
        activity.ask("What does a dog say?")
        (activity.thumbs().last().getChildAt(1) as Button).performClick()

        activity.learn.performClick()
        await("that it has learnt") { activity.texts().last().startsWith("Learnt in ") }
        val files = Files(activity)
        assertTrue("what was learnt is kept", files.adapter.isFile)
        assertTrue(activity.ask("What does a cow say?").isNotEmpty())
        controller.destroy()

        runBlocking {
            Feedback.open(files.feedback).use { store -> store.examples(Learn.RATINGS).use { assertEquals(2L, it.count) } }
        }
    }
}
