package dev.attune.android

import android.app.job.JobInfo
import android.app.job.JobParameters
import android.app.job.JobScheduler
import android.app.job.JobService
import android.content.ComponentName
import android.content.Context
import android.util.Log
import dev.attune.Adapter
import dev.attune.Attune
import dev.attune.Examples
import dev.attune.Feedback
import dev.attune.Learn
import dev.attune.Model
import dev.attune.Preference
import dev.attune.Progress
import dev.attune.TuneOptions
import dev.attune.Tuner
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Job
import kotlinx.coroutines.SupervisorJob
import kotlinx.coroutines.cancel
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeoutOrNull
import java.io.File

/**
 * Learns what people have made of a model's answers while the device is idle and charging. It works in slices, looks at the device's heat between them, and when
 * Android stops it, leaves a checkpoint within [stopMillis], from which the next job goes on.
 *
 * Subclass it, say which model, and name it in the manifest:
 * ```xml
 * <service android:name=".TuningService" android:permission="android.permission.BIND_JOB_SERVICE" android:exported="false" />
 * ```
 * Schedule it once with [schedule], for example when the app is started. `RECEIVE_BOOT_COMPLETED`, which jobs need that outlive a restart, is in the library's manifest.
 */
public abstract class AttuneTuningService : JobService() {
    private val scope by lazy { CoroutineScope(SupervisorJob() + Attune.dispatcher) }
    /** What each of Android's jobs does, by its number. */
    private val work = HashMap<Int, Job>()

    /** The model that the answers are of. Called in each job, on a worker thread; the job closes it. */
    protected abstract suspend fun openModel(): Model

    /** What people have said. Where a part of the app has the same file open in this process, both share it. */
    protected open suspend fun openFeedback(): Feedback = Feedback.open(File(filesDir, "attune/feedback"))

    /** Where the adapter comes to be, as `adapter.attune` with its earlier versions, and what belongs to a round under way. */
    protected open val folder: File get() = File(filesDir, "attune/tuning")

    /** What is learnt of the feedback. */
    protected open val learn: Learn get() = Learn.PAIRS

    /** Fewer examples than that are not worth a round. */
    protected open val minExamples: Int get() = 8

    /** Milliseconds of tuning between two looks at the heat. */
    protected open val sliceMillis: Int get() = 500

    /** Milliseconds that [onStopJob] waits at most for the checkpoint. */
    protected open val stopMillis: Long get() = 2_000

    /** What the heat allows. */
    protected open fun thermalPace(): ThermalPace = ThermalPace(this)

    /** Options of the tuner; they must be the same in all jobs of a round. */
    protected open fun TuneOptions.configure() {}

    /** Makes the tuner: by what is learnt, supervised tuning, DPO, KTO or Plackett-Luce. [start] is the adapter of the round before. */
    protected open suspend fun tuner(model: Model, examples: Examples, start: Adapter?): Tuner = when (learn) {
        Learn.EXAMPLES -> Tuner.sft(model, examples, start = start) { configure() }
        Learn.PAIRS -> Tuner.prefer(model, examples, Preference.DPO, start = start) { configure() }
        Learn.RATINGS -> Tuner.prefer(model, examples, Preference.KTO, start = start) { configure() }
        Learn.RANKINGS -> Tuner.prefer(model, examples, Preference.PLACKETT_LUCE, start = start) { configure() }
    }

    /** Hears where a round stands, on a worker thread. */
    protected open fun onProgress(progress: Progress) {}

    /** Hears how a job's sitting ended, on a worker thread: after [RoundEnd.LEARNT] there is a new adapter in [folder]. */
    protected open fun onEnd(end: RoundEnd) {}

    /** Hears why a job failed, on a worker thread. The job is done then; the next period's tries again. */
    protected open fun onFailure(failure: Exception) {
        Log.w("Attune", "tuning failed", failure)
    }

    final override fun onStartJob(params: JobParameters): Boolean {
        // Jobs of one folder, also of a service that is gone but still writes its checkpoint, wait for one another in TuningRound.
        work[params.jobId] = scope.launch {
            var again = false
            try {
                val end = sit()
                again = end == RoundEnd.TOO_HOT
                onEnd(end)
            } catch (stopped: CancellationException) {
                // Android asked for it, and wants no answer.
                throw stopped
            } catch (@Suppress("TooGenericExceptionCaught") failure: Exception) {
                onFailure(failure)
            } catch (missing: LinkageError) {
                onFailure(IllegalStateException("the native library cannot be used", missing))
            } catch (full: OutOfMemoryError) {
                onFailure(IllegalStateException("no memory is left for tuning", full))
            }
            jobFinished(params, again)
        }
        return true
    }

    private suspend fun sit(): RoundEnd {
        val thermal = thermalPace()
        if (thermal.now() == Pace.STOP) return RoundEnd.TOO_HOT
        return openModel().use { model ->
            openFeedback().use { feedback ->
                TuningRound(
                    model, feedback, folder, learn, sliceMillis, minExamples = minExamples, pace = thermal::now, onProgress = ::onProgress,
                ) { m, examples, start -> tuner(m, examples, start) }.run()
            }
        }
    }

    /** Ends the work with a checkpoint, and asks for another job. */
    final override fun onStopJob(params: JobParameters): Boolean {
        val stopping = work.remove(params.jobId) ?: return false
        stopping.cancel()
        runBlocking { withTimeoutOrNull(stopMillis) { stopping.join() } }
        return true
    }

    override fun onDestroy() {
        scope.cancel()
        super.onDestroy()
    }

    public companion object {
        /** The number that [schedule] gives its job unless another is said. */
        public const val JOB_ID: Int = 0x41_54

        private const val DAY_MILLIS = 24L * 60 * 60 * 1000

        /**
         * Has [service] called about once in [periodMillis] while the device is idle and charging, also after a restart. Calling it again while the job stands as it
         * is changes nothing. Gives whether Android has taken it.
         */
        @JvmStatic
        @JvmOverloads
        public fun schedule(
            context: Context,
            service: Class<out AttuneTuningService>,
            jobId: Int = JOB_ID,
            periodMillis: Long = DAY_MILLIS,
        ): Boolean {
            val scheduler = context.getSystemService(JobScheduler::class.java) ?: return false
            val component = ComponentName(context, service)
            val known = scheduler.allPendingJobs.firstOrNull { it.id == jobId }
            if (known != null && known.service == component && known.intervalMillis == periodMillis) return true
            val job = JobInfo.Builder(jobId, component)
                .setRequiresDeviceIdle(true)
                .setRequiresCharging(true)
                .setPersisted(true)
                .setPeriodic(periodMillis)
                .build()
            return scheduler.schedule(job) == JobScheduler.RESULT_SUCCESS
        }

        /** Takes the job back. */
        @JvmStatic
        @JvmOverloads
        public fun unschedule(context: Context, jobId: Int = JOB_ID) {
            context.getSystemService(JobScheduler::class.java)?.cancel(jobId)
        }
    }
}
