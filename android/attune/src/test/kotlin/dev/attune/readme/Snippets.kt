package dev.attune.readme

import android.content.Context
import dev.attune.Examples
import dev.attune.Feedback
import dev.attune.Model
import dev.attune.Tuner
import dev.attune.android.AttuneTuningService
import dev.attune.android.RoundEnd
import dev.attune.android.ThermalPace
import dev.attune.android.TuningRound
import java.io.File

/* What README says, word for word: ReadmeTest compares. WorkManager's own classes are not at hand; these stand for them. */

abstract class CoroutineWorker(val applicationContext: Context, @Suppress("unused") val parameters: WorkerParameters) {
    abstract suspend fun doWork(): Result
}

class WorkerParameters

enum class Result {
    RETRY, SUCCESS;

    companion object {
        fun retry() = RETRY
        fun success() = SUCCESS
    }
}

fun schedule(context: Context) {
    // README: begin
    AttuneTuningService.schedule(context, Nightly::class.java)          // once, for example when the app starts
    // README: end
}

// README: begin
suspend fun learn(context: Context) = Model.fromAsset(context, "model.gguf").use { model ->   // or Model.open(file), Model.open(context, uri)
    val file = File(context.filesDir, "adapter.attune")
    Examples().use { examples ->
        examples.add("What is the capital of France?", "The capital of France is Paris.")
        Tuner.sft(model, examples) { rank = 16; steps = 60; budgetBytes = 300L shl 20 }.use { tuner ->
            tuner.updates().collect { println("update ${it.step}: loss ${it.loss}") }             // a Flow; cancelling the coroutine ends it at once
            tuner.adapter().use { it.save(file) }
        }
    }
    model.session { maxRank = 16 }.use { session ->
        model.adapter(file).use { session.addAdapter(it) }
        session.stream("What is the capital of Portugal?").collect { print(it) }
    }
}
// README: end

// README: begin
class Nightly : AttuneTuningService() {                             // and <service android:name=".Nightly" android:exported="false"
    override suspend fun openModel() = Model.fromAsset(this, "model.gguf")   //      android:permission="android.permission.BIND_JOB_SERVICE" />
}
// README: end

// README: begin
class NightlyWorker(context: Context, parameters: WorkerParameters) : CoroutineWorker(context, parameters) {
    override suspend fun doWork(): Result = Model.fromAsset(applicationContext, "model.gguf").use { model ->
        Feedback.open(File(applicationContext.filesDir, "attune/feedback")).use { feedback ->
            val pace = ThermalPace(applicationContext)
            val round = TuningRound(model, feedback, File(applicationContext.filesDir, "attune/tuning"), pace = pace::now) { m, pairs, start ->
                Tuner.prefer(m, pairs, start = start) { maxLength = 512 }
            }
            if (round.run() == RoundEnd.TOO_HOT) Result.retry() else Result.success()
        }
    }
}
// README: end
