package dev.attune.android

import android.app.job.JobParameters
import android.app.job.JobScheduler
import android.content.Context
import android.os.PowerManager
import dev.attune.AttuneException
import dev.attune.Feedback
import dev.attune.Message
import dev.attune.Model
import dev.attune.Progress
import dev.attune.Status
import dev.attune.Thumb
import dev.attune.TuneOptions
import kotlinx.coroutines.runBlocking
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.shadow.api.Shadow
import org.robolectric.shadows.ShadowLooper
import java.io.File
import java.util.concurrent.LinkedBlockingQueue
import java.util.concurrent.TimeUnit

/** What the tests see of a service, and how it is told to behave. */
private class Desk {
    val ends = LinkedBlockingQueue<RoundEnd>()
    val failures = LinkedBlockingQueue<Exception>()
    val progress = LinkedBlockingQueue<Progress>()
    var onProgress: (Progress) -> Unit = {}
    var noModel: Exception? = null
    var wrongOption = false
}

private var desk = Desk()

class TuningService : AttuneTuningService() {
    override suspend fun openModel(): Model {
        desk.noModel?.let { throw it }
        return Model.builtIn()
    }

    override val minExamples get() = 2
    override val sliceMillis get() = 1

    override fun TuneOptions.configure() {
        rank = 4
        steps = 6
        maxLength = 48
        gradientAccumulation = 2
        if (desk.wrongOption) learningRate = -1f
    }

    override fun onProgress(progress: Progress) {
        desk.progress += progress
        desk.onProgress(progress)
    }

    override fun onEnd(end: RoundEnd) {
        desk.ends += end
    }

    override fun onFailure(failure: Exception) {
        desk.failures += failure
    }
}

@RunWith(RobolectricTestRunner::class)
class TuningServiceTest {
    private val context: Context = RuntimeEnvironment.getApplication()
    private val power = checkNotNull(context.getSystemService(PowerManager::class.java))
    private val folder get() = File(context.filesDir, "attune/tuning")
    private val adapter get() = File(folder, "adapter.attune")

    @Before
    fun fill() {
        desk = Desk()
        context.filesDir.deleteRecursively()
        context.filesDir.mkdirs()
        gather("cow" to "moo", "dog" to "woof", "cat" to "meow")
    }

    private fun gather(vararg said: Pair<String, String>) = runBlocking {
        File(context.filesDir, "attune").mkdirs()
        Feedback.open(File(context.filesDir, "attune/feedback")).use { store ->
            for ((animal, sound) in said) {
                val prompt = store.addPrompt(listOf(Message.user("What does a $animal say?")))
                store.addThumb(store.addAnswer(prompt, "I do not know."), Thumb.DOWN)
                store.addThumb(store.addAnswer(prompt, "It says $sound."), Thumb.UP)
            }
        }
    }

    private fun heat(status: Int) = shadowOf(power).setCurrentThermalStatus(status)

    private fun service(): TuningService = Robolectric.buildService(TuningService::class.java).create().get()

    private val parameters: JobParameters = Shadow.newInstanceOf(JobParameters::class.java)

    /** Starts a job, and waits for its end. */
    private fun job(): Pair<RoundEnd?, TuningService> {
        val service = service()
        assertTrue("the job has work to do", service.onStartJob(parameters))
        val end = desk.ends.poll(60, TimeUnit.SECONDS)
        finished(service)
        return end to service
    }

    private fun finished(service: TuningService) {
        for (attempt in 0 until 500) {
            ShadowLooper.idleMainLooper()
            if (shadowOf(service).isJobFinished) return
            Thread.sleep(10)
        }
        throw AssertionError("the job has not said that it is finished")
    }

    /** The adapter of a round that nothing has cut short. */
    private fun undisturbed(): ByteArray {
        assertEquals(RoundEnd.LEARNT, job().first)
        val bytes = adapter.readBytes()
        fill()
        return bytes
    }

    @Test
    fun the_job_is_scheduled_for_an_idle_and_charging_device_and_outlives_a_restart() {
        assertTrue(AttuneTuningService.schedule(context, TuningService::class.java))
        assertTrue("a second time changes nothing", AttuneTuningService.schedule(context, TuningService::class.java))
        val scheduler = checkNotNull(context.getSystemService(JobScheduler::class.java))
        val job = scheduler.allPendingJobs.single()
        assertTrue(job.isRequireDeviceIdle && job.isRequireCharging && job.isPersisted && job.isPeriodic)
        assertEquals(TuningService::class.java.name, job.service.className)
        AttuneTuningService.unschedule(context)
        assertTrue(scheduler.allPendingJobs.isEmpty())
    }

    @Test
    fun a_job_learns_what_the_store_says_once() {
        val (end, service) = job()
        assertEquals(desk.failures.toString(), RoundEnd.LEARNT, end)
        assertFalse("there is nothing left to do", shadowOf(service).isRescheduleNeeded)
        assertTrue(adapter.isFile && !File(folder, "round.jsonl").exists() && !File(folder, "checkpoint").exists())
        assertEquals(6L, desk.progress.last().step)
        assertFalse("no copy of what was said is left", folder.walk().any { it.isFile && "moo" in it.readText(Charsets.ISO_8859_1) })
        val before = adapter.readBytes()
        assertEquals(RoundEnd.NOTHING_NEW, job().first)
        assertArrayEquals(before, adapter.readBytes())
        // What is added is learnt from where the last round has ended.
        gather("duck" to "quack")
        assertEquals(RoundEnd.LEARNT, job().first)
        assertFalse(before.contentEquals(adapter.readBytes()))
    }

    @Test
    fun heat_stops_the_work_and_it_goes_on_when_it_is_cool() {
        val expected = undisturbed()
        heat(PowerManager.THERMAL_STATUS_SEVERE)
        val (hot, first) = job()
        assertEquals(RoundEnd.TOO_HOT, hot)
        assertTrue(shadowOf(first).isRescheduleNeeded)
        assertFalse("nothing was begun", File(folder, "round.jsonl").exists())

        heat(PowerManager.THERMAL_STATUS_NONE)
        desk.onProgress = { if (it.step >= 2) heat(PowerManager.THERMAL_STATUS_CRITICAL) }
        val (heated, second) = job()
        assertEquals(RoundEnd.TOO_HOT, heated)
        assertTrue(shadowOf(second).isRescheduleNeeded)
        assertTrue(File(folder, "checkpoint").isDirectory && !adapter.exists())
        val reached = desk.progress.last().step
        assertTrue("$reached", reached in 2..5)

        heat(PowerManager.THERMAL_STATUS_MODERATE)
        desk.onProgress = {}
        desk.progress.clear()
        assertEquals(desk.failures.toString(), RoundEnd.LEARNT, job().first)
        assertTrue("it went on where it was", desk.progress.first().step >= reached)
        assertArrayEquals("the same bytes as without heat", expected, adapter.readBytes())
        heat(PowerManager.THERMAL_STATUS_NONE)
    }

    @Test
    fun android_stops_a_job_within_its_bound_and_the_next_one_goes_on() {
        val expected = undisturbed()
        val service = service()
        assertTrue(service.onStartJob(parameters))
        while (checkNotNull(desk.progress.poll(60, TimeUnit.SECONDS)).step < 2) Unit
        val asked = System.nanoTime()
        assertTrue("another job is wanted", service.onStopJob(parameters))
        val millis = (System.nanoTime() - asked) / 1_000_000
        assertTrue("it took $millis ms", millis < 2_000)
        assertTrue(File(folder, "checkpoint").isDirectory && File(folder, "round.jsonl").isFile)
        assertTrue("a job that was stopped does not end", desk.ends.isEmpty())
        service.onDestroy()
        // What is said meanwhile belongs to the next round.
        gather("duck" to "quack")
        assertEquals(desk.failures.toString(), RoundEnd.LEARNT, job().first)
        assertArrayEquals("the same bytes as without a stop", expected, adapter.readBytes())
        assertEquals(RoundEnd.LEARNT, job().first)
    }

    @Test
    fun a_job_that_fails_says_so_and_is_done() {
        desk.noModel = IllegalStateException("no model yet")
        val service = service()
        assertTrue(service.onStartJob(parameters))
        assertEquals("no model yet", desk.failures.poll(60, TimeUnit.SECONDS)?.message)
        finished(service)
        assertFalse(shadowOf(service).isRescheduleNeeded)
    }

    @Test
    fun a_round_that_cannot_be_learnt_does_not_stand_in_the_way_of_the_next() {
        desk.wrongOption = true
        val service = service()
        assertTrue(service.onStartJob(parameters))
        val failure = desk.failures.poll(60, TimeUnit.SECONDS)
        assertTrue("$failure", failure is AttuneException && failure.code == Status.ERROR_OPTION)
        finished(service)
        assertFalse(File(folder, "round.jsonl").exists() || File(folder, "checkpoint").exists())
        desk.wrongOption = false
        assertEquals(RoundEnd.LEARNT, job().first)
    }

    @Test
    fun a_round_under_way_can_be_dropped_with_all_that_was_said() {
        desk.onProgress = { if (it.step >= 2) heat(PowerManager.THERMAL_STATUS_CRITICAL) }
        assertEquals(RoundEnd.TOO_HOT, job().first)
        assertTrue(File(folder, "round.jsonl").exists())
        runBlocking { TuningRound.discard(folder) }
        assertTrue(folder.list().orEmpty().isEmpty())
        heat(PowerManager.THERMAL_STATUS_NONE)
    }

    @Test
    fun a_checkpoint_of_a_round_that_began_with_another_adapter_is_not_gone_on_with() {
        assertEquals(RoundEnd.LEARNT, job().first)
        val learnt = adapter.readBytes()
        gather("duck" to "quack")
        desk.onProgress = { if (it.step >= 2) heat(PowerManager.THERMAL_STATUS_CRITICAL) }
        assertEquals(RoundEnd.TOO_HOT, job().first)
        // Another part of the app rolls back meanwhile.
        adapter.delete()
        heat(PowerManager.THERMAL_STATUS_NONE)
        desk.onProgress = {}
        desk.progress.clear()
        assertEquals(desk.failures.toString(), RoundEnd.LEARNT, job().first)
        assertTrue("it began anew", desk.progress.first().step <= 1)
        assertFalse(learnt.contentEquals(adapter.readBytes()))
    }

    @Test
    fun pace_follows_status_and_headroom() {
        assertEquals(Pace.FULL, ThermalPace.pace(PowerManager.THERMAL_STATUS_LIGHT, Float.NaN))
        assertEquals(Pace.FULL, ThermalPace.pace(PowerManager.THERMAL_STATUS_NONE, 0.5f))
        assertEquals(Pace.SLOW, ThermalPace.pace(PowerManager.THERMAL_STATUS_NONE, 0.9f))
        assertEquals(Pace.SLOW, ThermalPace.pace(PowerManager.THERMAL_STATUS_MODERATE, Float.NaN))
        assertEquals(Pace.STOP, ThermalPace.pace(PowerManager.THERMAL_STATUS_NONE, 1.2f))
        assertEquals(Pace.STOP, ThermalPace.pace(PowerManager.THERMAL_STATUS_SHUTDOWN, Float.NaN))
    }
}
