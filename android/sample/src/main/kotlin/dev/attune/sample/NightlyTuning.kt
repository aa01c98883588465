package dev.attune.sample

import dev.attune.Feedback
import dev.attune.Learn
import dev.attune.Model
import dev.attune.TuneOptions
import dev.attune.android.AttuneTuningService
import java.io.File

/** Learns from the thumbs while the device is idle and charging. */
class NightlyTuning : AttuneTuningService() {
    private val files by lazy { Files(this) }

    override suspend fun openModel(): Model = Model.builtIn()

    override suspend fun openFeedback(): Feedback = Feedback.open(files.feedback)

    override val folder: File get() = files.adapters

    override val learn: Learn get() = Learn.RATINGS

    override fun TuneOptions.configure() {
        ours()
        learningRate = 0f
    }
}
