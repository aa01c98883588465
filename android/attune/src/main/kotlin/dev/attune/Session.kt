package dev.attune

import dev.attune.internal.Handle
import dev.attune.internal.Native
import dev.attune.internal.Numbers
import dev.attune.internal.TokenListener
import dev.attune.internal.blocking
import dev.attune.internal.cancellable
import dev.attune.internal.packed
import dev.attune.internal.turns
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.buffer
import kotlinx.coroutines.flow.channelFlow

/** An answer. */
public data class Answer(
    /** All of it. */
    val text: String,
    /** How it ended. */
    val finishReason: FinishReason,
    /** Tokens of the prompt. */
    val promptTokens: Int,
    /** Tokens of the answer. */
    val answerTokens: Int,
)

/**
 * A conversation with a model. One call at a time: a second one, from another coroutine or from a callback, is [Status.ERROR_BUSY]. Where the coroutine of an
 * answer is cancelled, the answer ends within a part of an operation, and the session can be used again.
 */
public class Session internal constructor(address: Long) : AutoCloseable {
    internal val handle = Handle("a session", address, Native::sessionFree)

    /**
     * Answers a conversation. Give all of its turns each time: what the session has computed of them is not computed again. [onText] hears of the text as it comes,
     * whole characters, in the thread of the work; false ends the answer, and what it throws ends it too and is thrown from here.
     *
     * @throws AttuneException [Status.ERROR_CONTEXT_FULL] where the conversation is longer than the session's context; [Status.ERROR_TEMPLATE] where the model's
     *   chat template refuses it
     */
    public suspend fun chat(turns: List<Message>, onText: ((String) -> Boolean)? = null, options: GenerateOptions.() -> Unit = {}): Answer {
        val packed = turns(turns)
        return answer(onText, options) { session, how, stop, listener, cancel -> Native.sessionChat(session, packed, how, stop, listener, cancel) }
    }

    /** The same for a conversation of one turn, the user's. */
    public suspend fun chat(prompt: String, onText: ((String) -> Boolean)? = null, options: GenerateOptions.() -> Unit = {}): Answer =
        chat(listOf(Message.user(prompt)), onText, options)

    /** Goes on with a text as it stands, without the chat template. */
    public suspend fun complete(text: String, onText: ((String) -> Boolean)? = null, options: GenerateOptions.() -> Unit = {}): Answer =
        answer(onText, options) { session, how, stop, listener, cancel ->
            Native.sessionComplete(session, text.encodeToByteArray(), how, stop, listener, cancel)
        }

    /** Goes on with token ids. */
    public suspend fun complete(ids: IntArray, onText: ((String) -> Boolean)? = null, options: GenerateOptions.() -> Unit = {}): Answer =
        answer(onText, options) { session, how, stop, listener, cancel -> Native.sessionContinue(session, ids, how, stop, listener, cancel) }

    /** An answer's text as it comes. Nothing is done before it is collected; a collector that stops ends the answer. */
    public fun stream(turns: List<Message>, options: GenerateOptions.() -> Unit = {}): Flow<String> =
        channelFlow { chat(turns, { trySend(it).isSuccess }, options) }.buffer(Channel.UNLIMITED)

    /** The same for a conversation of one turn, the user's. */
    public fun stream(prompt: String, options: GenerateOptions.() -> Unit = {}): Flow<String> = stream(listOf(Message.user(prompt)), options)

    private suspend fun answer(
        onText: ((String) -> Boolean)?,
        options: GenerateOptions.() -> Unit,
        call: (Long, LongArray, ByteArray, TokenListener?, Long) -> LongArray,
    ): Answer {
        val how = GenerateOptions().apply(options)
        val (packed, stop) = how.pack() to packed(how.stop)
        val listener = onText?.let { hear -> TokenListener { hear(it.decodeToString()) } }
        return handle.cancellable { session, cancel ->
            val numbers = Numbers(call(session, packed, stop, listener, cancel))
            val reason = coded<FinishReason>(numbers.int())
            Answer(Native.sessionText(session).decodeToString(), reason, numbers.int(), numbers.int())
        }
    }

    /** The tokens of the last answer. */
    public suspend fun tokens(): IntArray = blocking { handle.use { Native.sessionTokens(it) } }

    /**
     * Puts an adapter into use, its own scale multiplied by [scale], and gives its number in the session. Its rank must have been planned for
     * ([SessionOptions.maxRank]). Up to 8. What is in the cache stays as it was computed: [reset] to compute it anew.
     */
    public suspend fun addAdapter(adapter: Adapter, scale: Float = 1f): Int =
        blocking { handle.use { session -> adapter.handle.use { Native.sessionAddAdapter(session, it, scale) } } }

    /** Scales an adapter of the session; 0 switches it off, 1 on. Takes effect with the next token. */
    public suspend fun scaleAdapter(index: Int, scale: Float): Unit = blocking { handle.use { Native.sessionScaleAdapter(it, index, scale) } }

    /** Forgets the conversation. */
    public suspend fun reset(): Unit = blocking { handle.use { Native.sessionReset(it) } }

    /** What it has taken. */
    public suspend fun plan(): Plan = blocking { Plan.take(handle.use { Native.sessionPlan(it) }) }

    /** Closes it. An answer that is under way is asked to end, and frees it then. */
    override fun close(): Unit = handle.close()
}
