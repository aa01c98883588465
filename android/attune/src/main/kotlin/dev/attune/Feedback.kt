package dev.attune

import dev.attune.internal.Handle
import dev.attune.internal.Native
import dev.attune.internal.blocking
import dev.attune.internal.bytes
import dev.attune.internal.making
import dev.attune.internal.turns
import kotlinx.coroutines.sync.Mutex
import kotlinx.coroutines.sync.withLock
import java.io.File

/**
 * A feedback store: prompts, answers, and what people make of them, in one file. What a call has added survives a crash once it has returned; what is erased is gone
 * from the file.
 *
 * A file is open once, in all processes. Within a process, [open] gives another handle to a store that is open already, so that a chat and a job may share one; calls
 * of several coroutines wait for each other.
 */
public class Feedback private constructor(private val store: Store) : AutoCloseable {
    private var closed = false

    /** Adds a prompt: the whole conversation before the answer. [conversation] is a name of the app's, by which it can be erased. Gives what answers name it by. */
    public suspend fun addPrompt(prompt: List<Message>, conversation: String? = null): Long =
        call { Native.feedbackAddPrompt(it, turns(prompt), conversation?.encodeToByteArray()) }

    /** Adds an answer to a prompt; gives what verdicts name it by. */
    public suspend fun addAnswer(prompt: Long, answer: String): Long = call { Native.feedbackAddAnswer(it, prompt, answer.encodeToByteArray()) }

    /** Adds a thumb on an answer. */
    public suspend fun addThumb(answer: Long, thumb: Thumb): Unit = call { Native.feedbackAddThumb(it, answer, thumb.code) }

    /** Adds what a person made of an answer: better than the answer, and an answer too, whose id it gives. */
    public suspend fun addEdit(answer: Long, edited: String): Long = call { Native.feedbackAddEdit(it, answer, edited.encodeToByteArray()) }

    /** Adds an answer that a person asked for in the place of another. By itself it says nothing; once it is kept or liked, it is better than the old one. */
    public suspend fun addRegenerated(answer: Long, other: String): Long = call { Native.feedbackAddRegenerated(it, answer, other.encodeToByteArray()) }

    /** Adds that a person went on with an answer: copied it, sent it, replied to it. */
    public suspend fun addKept(answer: Long): Unit = call { Native.feedbackAddKept(it, answer) }

    /** Adds an order of two or more answers to one prompt, best first. */
    public suspend fun addRank(answers: List<Long>): Unit = call { Native.feedbackAddRank(it, answers.toLongArray()) }

    /** Brings everything to the disk. */
    public suspend fun flush(): Unit = call { Native.feedbackFlush(it) }

    /** What the store says, as examples. Duplicates count once, and of verdicts that contradict each other the later one. */
    public suspend fun examples(learn: Learn): Examples {
        var made: Examples? = null
        try {
            return call { address -> Examples(Native.feedbackData(address, learn.code)).also { made = it } }
        } catch (thrown: Throwable) {
            made?.close()
            throw thrown
        }
    }

    /** What the store holds and what can be learnt from it, as JSON: counts by kind, duplicates, contradictions, damage. */
    public suspend fun describe(learn: Learn): String = call { Native.feedbackDescribe(it, learn.code).decodeToString() }

    /** Writes examples to a file of JSON lines that any trainer reads; gives how many. */
    public suspend fun export(learn: Learn, file: File): Long = call { Native.feedbackExport(it, learn.code, file.bytes) }

    /** Writes all that the store holds to a file, event by event: what a person may ask for. Gives how many. */
    public suspend fun exportEvents(file: File): Long = call { Native.feedbackExportEvents(it, file.bytes) }

    /** Erases a conversation, and all that is about it: its bytes are gone from the file when the call returns. Gives how many events went. */
    public suspend fun eraseConversation(conversation: String): Long = call { Native.feedbackEraseConversation(it, conversation.encodeToByteArray()) }

    /** Erases events by their ids, and all that is about them. */
    public suspend fun erase(ids: List<Long>): Long = call { Native.feedbackErase(it, ids.toLongArray()) }

    /** Erases everything. */
    public suspend fun eraseAll(): Long = call { Native.feedbackEraseAll(it) }

    private suspend fun <T> call(block: (Long) -> T): T = store.mutex.withLock {
        if (synchronized(this) { closed }) throw AttuneException.of(Status.ERROR_HANDLE, "expected a feedback store that is open, found one that has been closed")
        blocking { store.handle.use(block = block) }
    }

    /** Closes it; the file, with the last handle of this process. */
    override fun close() {
        synchronized(this) {
            if (closed) return
            closed = true
        }
        Store.release(store)
    }

    public companion object {
        /** Opens a store, or begins one. What a crash left unfinished is cut off. The options are those of the first handle of this process. */
        public suspend fun open(file: File, options: FeedbackOptions.() -> Unit = {}): Feedback {
            val packed = FeedbackOptions().apply(options).pack()
            return making { Feedback(Store.take(file, packed)) }
        }
    }

    /** A native store, and how many handles it has in this process. */
    private class Store(val path: String) {
        val mutex = Mutex()
        var users = 0

        /** Opening may wait for another process, which only those who want the same file wait for. */
        private var opened: Handle? = null
        val handle: Handle get() = checkNotNull(synchronized(this) { opened })

        companion object {
            private val open = HashMap<String, Store>()

            fun take(file: File, options: LongArray): Store {
                val path = file.canonicalPath
                val store = synchronized(open) { open.getOrPut(path) { Store(path) }.also { it.users++ } }
                try {
                    synchronized(store) {
                        if (store.opened == null) store.opened = Handle("a feedback store", Native.feedbackOpen(file.bytes, options), Native::feedbackFree)
                    }
                } catch (@Suppress("TooGenericExceptionCaught") e: Throwable) {
                    release(store)
                    throw e
                }
                return store
            }

            fun release(store: Store) {
                val last = synchronized(open) {
                    if (--store.users > 0) return
                    open.remove(store.path)
                    store.opened
                }
                last?.close()
            }
        }
    }
}
