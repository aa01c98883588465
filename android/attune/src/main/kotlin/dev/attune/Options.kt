package dev.attune

import dev.attune.internal.longs

/*
 * Options, all with defaults: change what you want in the block that a function takes. Names are those of attune.h, which are PEFT's and TRL's. A number out of
 * range is an AttuneException.Misuse with Status.ERROR_OPTION, whose message names it. Tests compare names, order and defaults with the header.
 */

/** What a session is planned for. */
public class SessionOptions {
    /** Tokens of the longest conversation; 0: the model's own context, at most 2048. */
    public var context: Int = 0
    /** Tokens that are taken in at once. */
    public var prefillBatch: Int = 256
    /** How keys and values are kept. */
    public var kvType: KvType = KvType.AUTO
    /** The largest rank of an adapter that will be added; 0: no adapters. */
    public var maxRank: Int = 0
    /** Threads; 0: as many as the processor runs at once. */
    public var threads: Int = 0
    /** How exactly it computes. */
    public var precision: Precision = Precision.FAST
    /** Where it computes. */
    public var target: Target = Target.CPU
    /** Bytes that adapters will take, 4 a parameter: what the plan makes room for. */
    public var adapterBytes: Long = 0
    /** Bytes that the session may take above the model file; 0: as many as it takes. */
    public var budgetBytes: Long = 0

    internal fun pack() = longs(context, prefillBatch, kvType, maxRank, threads, precision, target, adapterBytes, budgetBytes)
}

/** How an answer is made. */
public class GenerateOptions {
    /** Tokens of the longest answer. */
    public var maxTokens: Int = 256
    /** Logits are divided by it; 0: always the likeliest token. */
    public var temperature: Float = 0.7f
    /** Only the so many likeliest tokens; 0: all. */
    public var topK: Int = 40
    /** Only the likeliest tokens that together reach this probability. */
    public var topP: Float = 0.95f
    /** Only tokens at least this times as likely as the likeliest. */
    public var minP: Float = 0f
    /** Tokens seen before are made less likely by it; 1: no change. */
    public var repeatPenalty: Float = 1f
    /** How many of the latest tokens count as seen. */
    public var repeatLast: Int = 64
    /** Seed of the choice, 0 or more. */
    public var seed: Long = 0
    /** Strings that end the answer, without being part of it. */
    public var stop: List<String> = emptyList()

    internal fun pack() = longs(maxTokens, temperature, topK, topP, minP, repeatPenalty, repeatLast, seed)
}

/** What a tuner is asked to do. */
public class TuneOptions {
    /** R of the adapter. */
    public var rank: Int = 8
    /** α: the adapter's scale is `alpha / rank`. */
    public var alpha: Float = 16f
    /** The probability that an input of the adapter is dropped. */
    public var dropout: Float = 0f
    /** Scale by `alpha / sqrt(rank)`. */
    public var useRslora: Boolean = false
    /** B learns so many times faster than A. */
    public var loraplusLrRatio: Float = 1f
    /** Which linears. */
    public var targetModules: Set<Module> = Module.ALL
    /** Only the top so many layers; 0: all. */
    public var layers: Int = 0
    /** Peak learning rate; 0: 2e-4, or 5e-5 for preferences. */
    public var learningRate: Float = 0f
    /** How it falls. */
    public var schedule: Schedule = Schedule.LINEAR
    /** λ of AdamW. */
    public var weightDecay: Float = 0f
    /** β1 of AdamW. */
    public var beta1: Float = 0.9f
    /** β2 of AdamW. */
    public var beta2: Float = 0.999f
    /** ε of AdamW. */
    public var epsilon: Float = 1e-8f
    /** Gradients are scaled down to this norm; 0: never. */
    public var maxGradNorm: Float = 1f
    /** The optimiser's state. */
    public var optim: Optim = Optim.AUTO
    /** Examples of a micro-batch. */
    public var batchSize: Int = 1
    /** Micro-batches of an update. */
    public var gradientAccumulation: Int = 8
    /** Tokens of the longest example; longer ones lose their end. 0: 1024, at most the model's context. */
    public var maxLength: Int = 0
    /** Several examples share a row of [maxLength] tokens. */
    public var packing: Boolean = false
    /** A new order each epoch. */
    public var shuffle: Boolean = true
    /** Stop after so many evaluations without a better loss; 0: never. */
    public var earlyStopping: Int = 0
    /** Threads; 0: as many as the processor runs at once. No result depends on it. */
    public var threads: Int = 0
    /** How exactly it computes. */
    public var precision: Precision = Precision.FAST
    /** Where it computes. */
    public var target: Target = Target.CPU
    /** What preferences are measured against. */
    public var reference: Reference = Reference.INIT
    /** Updates during which the learning rate rises from 0. */
    public var warmup: Long = 0
    /** Passes over the examples. */
    public var epochs: Long = 3
    /** Updates in all; 0: as many as the epochs have. */
    public var steps: Long = 0
    /** Evaluate after so many updates; 0: after each epoch, where there are held-out examples. */
    public var evalEvery: Long = 0
    /** Seed of order, initialisation and dropout, 0 or more. */
    public var seed: Long = 42
    /** Bytes that the tuner may take above the model file; 0: as many as it takes. */
    public var budgetBytes: Long = 0
    /** The loss within the method's family; null: the usual one. */
    public var lossType: String? = null
    /** β of the method. This one and those below are null for the method's default; one that the method does not read is an error. */
    public var beta: Double? = null
    /** The probability that a preference is wrong. */
    public var labelSmoothing: Double? = null
    /** SimPO's margin. */
    public var simpoGamma: Double? = null
    /** The weight of the likelihood term of CPO and SimPO. */
    public var cpoAlpha: Double? = null
    /** KTO's λ_D. */
    public var desirableWeight: Double? = null
    /** KTO's λ_U. */
    public var undesirableWeight: Double? = null
    /** By what share the loss of the guarding examples may rise before an adapter is not kept. */
    public var guardTolerance: Double = 0.1
    /** For preferences: the run stops where the divergence from the reference on held-out answers is larger, in nats a token; 0: never. */
    public var maxKl: Double = 0.0

    internal fun pack() = longs(
        rank, alpha, dropout, useRslora, loraplusLrRatio, targetModules.sumOf { it.code }, layers, learningRate, schedule, weightDecay, beta1, beta2, epsilon,
        maxGradNorm, optim, batchSize, gradientAccumulation, maxLength, packing, shuffle, earlyStopping, threads, precision, target, reference, warmup, epochs,
        steps, evalEvery, seed, budgetBytes, beta, labelSmoothing, simpoGamma, cpoAlpha, desirableWeight, undesirableWeight, guardTolerance,
        maxKl,
    )
}

/** What tuning on rewards needs besides. An update takes `batchSize * gradientAccumulation` answers. */
public class ReinforceOptions {
    /** Answers to each prompt; 0: 8 of GRPO, 2 of RLOO. */
    public var numGenerations: Int = 0
    /** Tokens of the longest answer; 0: 256, at most half of `maxLength`. */
    public var maxCompletionLength: Int = 0
    /** Logits are divided by it in sampling and in the policy that is tuned. */
    public var temperature: Float = 1f
    /** Only the likeliest tokens that together reach this probability are sampled. */
    public var topP: Float = 1f
    /** Only so many likeliest; 0: all. */
    public var topK: Int = 0
    /** Updates that are made from the same answers. */
    public var numIterations: Int = 1
    /** The run stops where the divergence from the reference is larger, in nats a token; 0: never. */
    public var maxKl: Double = 1.0
    /** The run stops where the policy's mean entropy is smaller, in nats a token; 0: never. */
    public var minEntropy: Double = 0.0
    /** The run stops where it is larger; 0: never. */
    public var maxEntropy: Double = 0.0

    internal fun pack() = longs(numGenerations, maxCompletionLength, temperature, topP, topK, numIterations, maxKl, minEntropy, maxEntropy)
}

/** For how long a run tunes. */
public class RunOptions {
    /**
     * Milliseconds; 0: no limit. An update is left where it stands when one more micro-batch would be late, and the next run goes on there with the same result;
     * one micro-batch is done in any case. A reward model's updates, and those on rewards, are done whole.
     */
    public var milliseconds: Int = 0
    /** Updates; 0: no limit. */
    public var maxSteps: Int = 0
    /** Evaluate where it is due and there are held-out examples; an evaluation is not cut short by the time. */
    public var evaluate: Boolean = true

    internal fun pack() = longs(milliseconds, maxSteps, evaluate)
}

/** How to measure. */
public class EvaluateOptions {
    /** Tokens of the longest example; 0: 1024, at most the model's context. */
    public var maxLength: Int = 0
    /** Threads; 0: as many as the processor runs at once. */
    public var threads: Int = 0
    /** How exactly it computes. */
    public var precision: Precision = Precision.FAST
    /** Where it computes. */
    public var target: Target = Target.CPU
    /** Bytes that it may take above the model file; 0: as many as it takes. */
    public var budgetBytes: Long = 0

    internal fun pack() = longs(maxLength, threads, precision, target, budgetBytes)
}

/** How a feedback store is kept. */
public class FeedbackOptions {
    /** At the limit, drop the oldest prompts with all that is about them; else refuse. */
    public var dropOldest: Boolean = false
    /** Entries go to the disk when [Feedback.flush] is called, else before the call that adds them returns. */
    public var onFlush: Boolean = false
    /** Bytes that the file may have, at least 4096. */
    public var maxBytes: Long = 64L shl 20

    internal fun pack() = longs(dropOldest, onFlush, maxBytes)
}

/** What a reward model is planned for. */
public class RewardOptions {
    /** Tokens of the longest prompt with its answer; 0: 1024, at most the model's context. */
    public var maxLength: Int = 0
    /** Tokens of one pass: so many answers are scored at once as it holds. */
    public var batchTokens: Int = 1024
    /** Threads; 0: as many as the processor runs at once. */
    public var threads: Int = 0
    /** How exactly it computes. */
    public var precision: Precision = Precision.FAST
    /** Where it computes. */
    public var target: Target = Target.CPU
    /** Bytes that it may take above the model file; 0: as many as it takes. */
    public var budgetBytes: Long = 0

    internal fun pack() = longs(maxLength, batchTokens, threads, precision, target, budgetBytes)
}
