package dev.attune.android

import dev.attune.Adapter
import dev.attune.AttuneException
import dev.attune.Examples
import dev.attune.Feedback
import dev.attune.Learn
import dev.attune.Model
import dev.attune.Progress
import dev.attune.Status
import dev.attune.Tuner
import kotlinx.coroutines.NonCancellable
import kotlinx.coroutines.delay
import kotlinx.coroutines.withContext
import java.io.File
import java.security.MessageDigest

/** How a [TuningRound] came back. */
public enum class RoundEnd {
    /** All that the store says has been learnt: a new adapter is in the folder. */
    LEARNT,

    /** There is nothing that was not learnt already. */
    NOTHING_NEW,

    /** The device is too hot. What is learnt so far is in a checkpoint. */
    TOO_HOT,
}

/**
 * Learns what a feedback store says, in as many sittings as it takes. The state is in a folder: `adapter.attune` with its earlier versions, as [Adapter.commit] leaves
 * them; while a round is under way, `round.jsonl`, which is what the store said when it began, and `checkpoint`; after it, `learnt`, a digest by which the same is not
 * learnt again. A round that is cut short, also by the end of the process, is gone on with by the next sitting, to the same bytes. Where something is erased from the
 * store, [discard] takes it out of the folder too.
 *
 * For those who have no [AttuneTuningService]: a WorkManager worker calls [run], and cancels it where it is stopped.
 */
public class TuningRound(
    private val model: Model,
    private val feedback: Feedback,
    private val folder: File,
    /** What is learnt of the feedback. */
    private val learn: Learn = Learn.PAIRS,
    /** Milliseconds of tuning between two looks at the heat. */
    private val sliceMillis: Int = 500,
    /** Milliseconds of tuning between two checkpoints. */
    private val checkpointMillis: Long = 30_000,
    /** Fewer examples than that are not worth a round. */
    private val minExamples: Int = 1,
    /** What the heat allows. */
    private val pace: () -> Pace = { Pace.FULL },
    /** Hears where it stands, between slices. */
    private val onProgress: (Progress) -> Unit = {},
    /** Makes the tuner. A round's sittings must all make the same. */
    private val tuner: suspend (Model, Examples, Adapter?) -> Tuner,
) {
    private val round = File(folder, "round.jsonl")
    private val learnt = File(folder, "learnt")
    private val checkpoint = File(folder, "checkpoint")

    /** One sitting. Where the coroutine is cancelled, a checkpoint is written before this comes back. */
    public suspend fun run(): RoundEnd {
        if (pace() == Pace.STOP) return RoundEnd.TOO_HOT
        if (!folder.isDirectory && !folder.mkdirs()) throw AttuneException.of(Status.ERROR_IO, "$folder: expected a folder that can be made")
        if (!round.exists() && !begin()) return RoundEnd.NOTHING_NEW
        Examples.open(round).use { examples ->
            val before = File(folder, "adapter.attune")
            val start = if (before.exists()) model.adapter(before) else null
            start.use {
                tuner(model, examples, start).use { tuner ->
                    goOn(tuner)
                    return if (learn(tuner)) finish(tuner) else RoundEnd.TOO_HOT
                }
            }
        }
    }

    /** Writes down what there is to learn; false where it is what was learnt last time. */
    private suspend fun begin(): Boolean {
        val next = File(folder, "next.jsonl")
        val count = try {
            feedback.export(learn, next)
        } catch (e: AttuneException) {
            if (e.code != Status.ERROR_NOTHING_TO_LEARN) throw e
            0
        }
        if (count < minExamples || learnt.exists() && learnt.readText() == digest(next)) {
            next.delete()
            return false
        }
        checkpoint.deleteRecursively()
        if (!next.renameTo(round)) throw AttuneException.of(Status.ERROR_IO, "$round: expected a file that can be written")
        return true
    }

    /** Takes up the checkpoint of an earlier sitting, where there is one that fits. */
    private suspend fun goOn(tuner: Tuner) {
        if (!checkpoint.isDirectory) return
        try {
            tuner.resume(checkpoint)
        } catch (e: AttuneException) {
            // Another version's, or of another model: the round begins anew.
            if (e.code != Status.ERROR_CHECKPOINT) throw e
            checkpoint.deleteRecursively()
        }
    }

    /** Learns in slices; false where it has become too hot. */
    private suspend fun learn(tuner: Tuner): Boolean {
        var saved = System.nanoTime()
        try {
            while (!tuner.progress.done) {
                when (pace()) {
                    Pace.STOP -> return false
                    Pace.SLOW -> delay(sliceMillis.toLong())
                    Pace.FULL -> Unit
                }
                tuner.run { milliseconds = sliceMillis }
                onProgress(tuner.progress)
                if ((System.nanoTime() - saved) / NANOS_PER_MILLI >= checkpointMillis) {
                    tuner.checkpoint(checkpoint)
                    saved = System.nanoTime()
                }
            }
            return true
        } finally {
            if (!tuner.progress.done) withContext(NonCancellable) { tuner.checkpoint(checkpoint) }
        }
    }

    private suspend fun finish(tuner: Tuner): RoundEnd = withContext(NonCancellable) {
        tuner.adapter().use { it.commit(folder) }
        learnt.writeText(digest(round))
        discard(folder)
        RoundEnd.LEARNT
    }

    private fun digest(file: File): String =
        MessageDigest.getInstance("SHA-256").digest(file.readBytes()).joinToString("") { "%02x".format(it) }

    public companion object {
        private const val NANOS_PER_MILLI = 1_000_000

        /** Drops a folder's round under way, with its copy of what the store said; the adapter stays. For a person who has erased feedback. */
        public fun discard(folder: File) {
            File(folder, "round.jsonl").delete()
            File(folder, "checkpoint").deleteRecursively()
        }
    }
}
