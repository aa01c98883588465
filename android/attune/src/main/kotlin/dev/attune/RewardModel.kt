package dev.attune

import dev.attune.internal.Handle
import dev.attune.internal.Native
import dev.attune.internal.blocking
import dev.attune.internal.packed
import dev.attune.internal.turns

/** A model that scores answers, from [Model.rewardModel]. One call at a time. */
public class RewardModel internal constructor(address: Long) : AutoCloseable {
    internal val handle = Handle("a reward model", address, Native::rewardFree)

    /** Scores answers to one conversation: a number for each, the better the higher. */
    public suspend fun score(prompt: List<Message>, answers: List<String>): FloatArray =
        blocking { handle.use { Native.rewardScore(it, turns(prompt), packed(answers)) } }

    /** Closes it. */
    override fun close(): Unit = handle.close()
}
