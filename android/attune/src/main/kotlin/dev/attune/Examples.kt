package dev.attune

import dev.attune.internal.Handle
import dev.attune.internal.Native
import dev.attune.internal.blocking
import dev.attune.internal.bytes
import dev.attune.internal.packed
import dev.attune.internal.turns
import java.io.File

/** Examples to learn from, or to measure with: of one kind. What is added later is not learnt by a tuner that was made before. */
public class Examples internal constructor(address: Long) : AutoCloseable {
    /** An empty set. */
    public constructor() : this(Native.dataNew())

    internal val handle = Handle("a set of examples", address, Native::dataFree)

    /** How many there are. */
    public val count: Long get() = handle.use { Native.dataCount(it) }

    /** Adds a conversation; what the assistant says in it is learnt. */
    public fun add(conversation: List<Message>): Unit = handle.use { Native.dataAddExample(it, turns(conversation)) }

    /** Adds an instruction and the answer to learn: short for a conversation of two turns. */
    public fun add(prompt: String, answer: String): Unit =
        handle.use { Native.dataAddAnswer(it, prompt.encodeToByteArray(), answer.encodeToByteArray()) }

    /** Adds a conversation to be answered by the model itself, for tuning on rewards. */
    public fun addPrompt(prompt: List<Message>): Unit = handle.use { Native.dataAddPrompt(it, turns(prompt)) }

    /** Adds two answers to one conversation, the better and the worse. */
    public fun addPair(prompt: List<Message>, chosen: String, rejected: String): Unit =
        handle.use { Native.dataAddPair(it, turns(prompt), chosen.encodeToByteArray(), rejected.encodeToByteArray()) }

    /** Adds an answer that is liked or disliked. */
    public fun addRating(prompt: List<Message>, answer: String, liked: Boolean): Unit =
        handle.use { Native.dataAddRating(it, turns(prompt), answer.encodeToByteArray(), liked) }

    /** Adds two or more answers to one conversation, best first. */
    public fun addRanking(prompt: List<Message>, answers: List<String>): Unit = handle.use { Native.dataAddRanking(it, turns(prompt), packed(answers)) }

    /** Adds lines of JSON in one of the formats of [open]. Nothing is added if one of them is no JSON object. */
    public fun addLines(lines: String): Unit = handle.use { Native.dataAddLines(it, lines.encodeToByteArray()) }

    /** Closes it; tuners that were made of it keep what they need. */
    override fun close(): Unit = handle.close()

    public companion object {
        /**
         * Opens a file of examples in any of the formats that are in use (JSON lines: `messages`, Alpaca, ShareGPT, `prompt`/`completion`, `text`, `input_ids`; pairs,
         * ratings, rankings). Examples are read from it when they are needed; it must not change meanwhile.
         */
        public suspend fun open(file: File): Examples = dev.attune.internal.making { Examples(Native.dataOpen(file.bytes)) }
    }
}
