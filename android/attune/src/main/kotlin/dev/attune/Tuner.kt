package dev.attune

import dev.attune.internal.Handle
import dev.attune.internal.Native
import dev.attune.internal.Numbers
import dev.attune.internal.RewardListener
import dev.attune.internal.StepListener
import dev.attune.internal.blocking
import dev.attune.internal.bytes
import dev.attune.internal.cancellable
import dev.attune.internal.making
import dev.attune.internal.packed
import dev.attune.internal.unpacked
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.buffer
import kotlinx.coroutines.flow.channelFlow
import java.io.File

/** Where a tuner stands. */
public data class Progress(
    /** Whether there is nothing more to do. */
    val done: Boolean,
    /** Updates done. */
    val step: Long,
    /** Updates in all. */
    val totalSteps: Long,
    /** Targets of the last update. */
    val targetTokens: Long,
    /** The loss that the last update found; NaN before the first. */
    val loss: Double,
    /** The last loss on held-out examples; NaN before the first. */
    val evalLoss: Double,
    /** The share of held-out targets that were the likeliest token; NaN before. */
    val evalTokenAccuracy: Double,
    /** For preferences: the share of pairs whose better answer is the likelier one, by the policy against its reference; else NaN. */
    val preferenceAccuracy: Double,
    /** For preferences: by how much; else NaN. */
    val preferenceMargin: Double,
    /** The divergence from the reference in nats a token: for preferences on held-out answers, on rewards on the last update's; NaN where it was not measured. */
    val kl: Double,
    /** On rewards: the mean reward of the last update's answers; else NaN. */
    val reward: Double,
    /** Tokens in a second, targets or not. */
    val tokensPerSecond: Double,
    /** Seconds of tuning in all, those before a checkpoint included. */
    val seconds: Double,
    /** Norm of the gradients before clipping. */
    val gradNorm: Float,
    /** Of the last update. */
    val learningRate: Float,
) {
    internal companion object {
        fun of(numbers: LongArray): Progress = Numbers(numbers).run {
            Progress(
                flag(), long(), long(), long(), double(), double(), double(), double(), double(), double(), double(), double(), double(), float(), float(),
            )
        }
    }
}

/** How a run came back. */
public data class Run(
    /** Why. */
    val reason: RunReason,
    /** Updates done in it. */
    val steps: Long,
)

/** What answers are worth, for [Tuner.grpo] and [Tuner.rloo]. */
public data class Reward(
    /** `length:max=20`, `regex:…`, `json`, `answer`, `language:en`, `model:FOLDER`, …. */
    val spec: String,
    /** Its weight in the sum. */
    val weight: Double = 1.0,
)

/**
 * A reward of the app's own, of weight 1: scores answers to one prompt, a number for each, in the thread of the run. What it throws ends the run and is thrown from
 * it.
 */
public fun interface Scorer {
    /** A number for each answer, the better the higher. */
    public fun score(prompt: String, answers: List<String>): DoubleArray
}

/**
 * Learns from examples, from preferences, or from rewards. One call at a time, but for [progress] and [pause]: a second one is [Status.ERROR_BUSY]. All memory is
 * taken when it is made. Examples that cannot be learnt from are left out: [describe] lists them.
 *
 * Where the coroutine of a run is cancelled, the run ends within a part of an operation; the tuner stays as it was after the last update, and can go on or be
 * [checkpointed][checkpoint].
 */
public class Tuner internal constructor(address: Long) : AutoCloseable {
    internal val handle = Handle("a tuner", address, Native::tunerFree)

    @Volatile
    private var pausing = false

    /** Where it stands, also while it works. */
    public val progress: Progress get() = handle.use { Progress.of(Native.tunerProgress(it)) }

    /**
     * Learns: whole updates and a part of one, until all are done or the options ask for a pause. To learn a little now and a little later, call it again; to go on
     * in another process, write a [checkpoint].
     *
     * @param onStep hears of each update and each evaluation, in the thread of the work; false pauses. What it throws pauses too, and is thrown from here.
     * @throws AttuneException [Status.ERROR_DIVERGED] where a loss or a gradient is no longer a number
     */
    public suspend fun run(onStep: ((Progress) -> Boolean)? = null, options: RunOptions.() -> Unit = {}): Run {
        val packed = RunOptions().apply(options).pack()
        pausing = false
        val listener = StepListener { numbers -> (onStep?.invoke(Progress.of(numbers)) ?: true) && !pausing }
        val run = Numbers(handle.cancellable { tuner, cancel -> Native.tunerRun(tuner, packed, listener, cancel) })
        return Run(coded(run.int()), run.long())
    }

    /** Learns, and gives where it stands after each update. Nothing is done before it is collected; a collector that stops ends the run. */
    public fun updates(options: RunOptions.() -> Unit = {}): Flow<Progress> =
        channelFlow { run({ trySend(it).isSuccess }, options) }.buffer(Channel.UNLIMITED)

    /** Asks the run that is under way to come back after the update that it is at. */
    public fun pause() {
        pausing = true
    }

    /** The adapter to keep: the best on held-out examples where there are some, else as it is after the last update. */
    public suspend fun adapter(): Adapter = making { Adapter(handle.use { Native.tunerAdapter(it) }) }

    /** Writes a checkpoint into a folder: all that it takes to go on. The last good one stays until it is complete. */
    public suspend fun checkpoint(folder: File): Unit = blocking { handle.use { Native.tunerCheckpoint(it, folder.bytes) } }

    /**
     * Goes on from the newest checkpoint of a folder. The tuner must have been made of the same model, examples and options; it ends with the same bytes as one that
     * was never stopped.
     *
     * @throws AttuneException [Status.ERROR_CHECKPOINT] where there is none, or it belongs to another run
     */
    public suspend fun resume(folder: File): Unit = blocking { handle.use { Native.tunerResume(it, folder.bytes) } }

    /** What it has taken. */
    public suspend fun plan(): Plan = blocking { Plan.take(handle.use { Native.tunerPlan(it) }) }

    /** What became of the examples, as JSON: `{"examples", "truncated", "skipped": [{"line", "reason"}]}`. */
    public suspend fun describe(): String = blocking { handle.use { Native.tunerDescribe(it) }.decodeToString() }

    /** Closes it, and drops what it has learnt since the last adapter or checkpoint. A run that is under way is asked to end, and frees it then. */
    override fun close(): Unit = handle.close()

    public companion object {
        /**
         * Supervised tuning.
         *
         * @param heldOut examples of the same kind: the adapter that is best on them is kept
         * @param start the adapter to go on from, whose shape is taken over
         * @throws AttuneException [Status.ERROR_NOTHING_TO_LEARN] where not one example can be learnt from; [Status.ERROR_BUDGET] where nothing fits the budget
         */
        public suspend fun sft(
            model: Model,
            examples: Examples,
            heldOut: Examples? = null,
            start: Adapter? = null,
            options: TuneOptions.() -> Unit = {},
        ): Tuner = make(model, examples, null, Others(heldOut, null, start), null, options)

        /**
         * Tuning on preferences: pairs, ratings ([Preference.KTO]) or rankings ([Preference.PLACKETT_LUCE]).
         *
         * @param guard supervised examples of what the model can do already and must not lose
         */
        public suspend fun prefer(
            model: Model,
            examples: Examples,
            method: Preference = Preference.DPO,
            heldOut: Examples? = null,
            guard: Examples? = null,
            start: Adapter? = null,
            options: TuneOptions.() -> Unit = {},
        ): Tuner = make(model, examples, method.method, Others(heldOut, guard, start), null, options)

        /** A reward model, from pairs or rankings: its adapter is what [Model.rewardModel] takes. */
        public suspend fun reward(
            model: Model,
            examples: Examples,
            heldOut: Examples? = null,
            start: Adapter? = null,
            options: TuneOptions.() -> Unit = {},
        ): Tuner = make(model, examples, "reward", Others(heldOut, null, start), null, options)

        /**
         * Tuning on rewards for the model's own answers, by group-relative policy optimisation.
         *
         * @param prompts what is to be answered: [Examples.addPrompt]
         * @param rewards what answers are worth, summed up
         * @param scorer a reward of the app's own
         */
        public suspend fun grpo(
            model: Model,
            prompts: Examples,
            rewards: List<Reward> = emptyList(),
            scorer: Scorer? = null,
            start: Adapter? = null,
            reinforce: ReinforceOptions.() -> Unit = {},
            options: TuneOptions.() -> Unit = {},
        ): Tuner = onRewards("grpo", model, prompts, Rewarded(rewards, scorer, reinforce), start, options)

        /** The same by REINFORCE leave-one-out. */
        public suspend fun rloo(
            model: Model,
            prompts: Examples,
            rewards: List<Reward> = emptyList(),
            scorer: Scorer? = null,
            start: Adapter? = null,
            reinforce: ReinforceOptions.() -> Unit = {},
            options: TuneOptions.() -> Unit = {},
        ): Tuner = onRewards("rloo", model, prompts, Rewarded(rewards, scorer, reinforce), start, options)

        private class Others(val heldOut: Examples?, val guard: Examples?, val start: Adapter?)

        private class Rewarded(val rewards: List<Reward>, val scorer: Scorer?, reinforce: ReinforceOptions.() -> Unit) {
            val options: LongArray = ReinforceOptions().apply(reinforce).pack()
        }

        private suspend fun onRewards(
            method: String,
            model: Model,
            prompts: Examples,
            rewarded: Rewarded,
            start: Adapter?,
            options: TuneOptions.() -> Unit,
        ): Tuner = make(model, prompts, method, Others(null, null, start), rewarded, options)

        private suspend fun make(
            model: Model,
            examples: Examples,
            method: String?,
            others: Others,
            rewarded: Rewarded?,
            options: TuneOptions.() -> Unit,
        ): Tuner {
            val how = TuneOptions().apply(options)
            val packed = how.pack()
            val listener = rewarded?.scorer?.let { scorer ->
                RewardListener { bytes ->
                    val texts = unpacked(bytes)
                    val answers = texts.drop(1)
                    scorer.score(texts[0], answers).also {
                        require(it.size == answers.size) { "expected a score for each of ${answers.size} answers, found ${it.size}" }
                    }
                }
            }
            var made: Tuner? = null
            try {
                return cancellable { cancel ->
                    model.handle.use(cancel) { modelAt ->
                        examples.onAddress { data ->
                            others.heldOut.onAddress { heldOut ->
                                others.guard.onAddress { guard ->
                                    others.start.onAddress { start ->
                                        Tuner(
                                            Native.tunerNew(
                                                modelAt, data, packed, method?.encodeToByteArray(), how.lossType?.encodeToByteArray(),
                                                longArrayOf(heldOut, guard, start, cancel.address),
                                                rewarded?.options, packed(rewarded?.rewards.orEmpty().map { it.spec }),
                                                rewarded?.rewards.orEmpty().map { it.weight }.toDoubleArray(), listener,
                                            ),
                                        )
                                    }
                                }
                            }
                        }
                    }.also { made = it }
                }
            } catch (thrown: Throwable) {
                made?.close()
                throw thrown
            }
        }
    }
}
