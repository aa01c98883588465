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
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.NonCancellable
import kotlinx.coroutines.delay
import kotlinx.coroutines.sync.Mutex
import kotlinx.coroutines.sync.withLock
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
    private val adapter = File(folder, "adapter.attune")
    private val round = File(folder, "round.jsonl")
    private val learnt = File(folder, "learnt")
    private val started = File(folder, "started")
    private val checkpoint = File(folder, "checkpoint")

    /**
     * One sitting. Where the coroutine is cancelled, a checkpoint is written before this comes back. Where the examples cannot be learnt from, or diverge, the round is
     * dropped, and the next sitting begins one with what the store says then. Sittings of one folder, whoever makes them in this process, come one after the other.
     */
    public suspend fun run(): RoundEnd = mutex(folder).withLock {
        if (pace() == Pace.STOP) return@withLock RoundEnd.TOO_HOT
        if (!folder.isDirectory && !folder.mkdirs()) throw AttuneException.of(Status.ERROR_IO, "$folder: expected a folder that can be made")
        // What a process that ended between the adapter and the end of the round has left.
        if (round.exists() && learnt.exists() && learnt.readText() == digest(round)) clear(folder)
        if (!round.exists() && !begin()) return@withLock RoundEnd.NOTHING_NEW
        try {
            sit()
        } catch (e: AttuneException) {
            if (e is AttuneException.Content || e is AttuneException.Misuse || e.code == Status.ERROR_DIVERGED || e.code == Status.ERROR_NOTHING_TO_LEARN) clear(folder)
            throw e
        }
    }

    private suspend fun sit(): RoundEnd = Examples.open(round).use { examples ->
        val start = start()
        start.use {
            tuner(model, examples, start).use { tuner ->
                goOn(tuner)
                if (learn(tuner)) finish(tuner) else RoundEnd.TOO_HOT
            }
        }
    }

    /** The adapter of the round before, unless it is of another model: then learning begins anew. */
    private suspend fun start(): Adapter? {
        if (!adapter.exists()) return null
        return try {
            model.adapter(adapter)
        } catch (e: AttuneException) {
            if (e.code != Status.ERROR_OTHER_BASE) throw e
            checkpoint.deleteRecursively()
            null
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
        val begins = if (adapter.exists()) digest(adapter) else "nothing"
        if (!checkpoint.isDirectory || !started.exists() || started.readText() != begins) {
            // Of a round that began with another adapter: what it learnt was measured against that.
            checkpoint.deleteRecursively()
            started.writeText(begins)
            return
        }
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
        // How long the last slice took: a slice is one micro-batch at least, however long that is.
        var slice = 0L
        try {
            while (!tuner.progress.done) {
                when (pace()) {
                    Pace.STOP -> {
                        tuner.checkpoint(checkpoint)
                        return false
                    }
                    Pace.SLOW -> delay(slice / NANOS_PER_MILLI)
                    Pace.FULL -> Unit
                }
                val began = System.nanoTime()
                tuner.run { milliseconds = sliceMillis }
                slice = System.nanoTime() - began
                onProgress(tuner.progress)
                if ((System.nanoTime() - saved) / NANOS_PER_MILLI >= checkpointMillis) {
                    tuner.checkpoint(checkpoint)
                    saved = System.nanoTime()
                }
            }
            return true
        } catch (stopped: CancellationException) {
            try {
                withContext(NonCancellable) { tuner.checkpoint(checkpoint) }
            } catch (e: AttuneException) {
                stopped.addSuppressed(e)
            }
            throw stopped
        }
    }

    private suspend fun finish(tuner: Tuner): RoundEnd = withContext(NonCancellable) {
        val digest = digest(round)
        tuner.adapter().use { it.commit(folder) }
        learnt.writeText(digest)
        clear(folder)
        RoundEnd.LEARNT
    }

    private fun digest(file: File): String =
        MessageDigest.getInstance("SHA-256").digest(file.readBytes()).joinToString("") { "%02x".format(it) }

    public companion object {
        private const val NANOS_PER_MILLI = 1_000_000

        private val mutexes = HashMap<String, Mutex>()

        private fun mutex(folder: File): Mutex = synchronized(mutexes) { mutexes.getOrPut(folder.canonicalPath) { Mutex() } }

        /**
         * Drops a folder's round under way, with its copy of what the store said; the adapter stays. For a person who has erased feedback. Waits for a sitting that is
         * at work: cancel it first.
         */
        public suspend fun discard(folder: File): Unit = mutex(folder).withLock { clear(folder) }

        private fun clear(folder: File) {
            File(folder, "round.jsonl").delete()
            File(folder, "next.jsonl").delete()
            File(folder, "started").delete()
            File(folder, "checkpoint").deleteRecursively()
        }
    }
}
