package dev.attune.sample

import android.content.Context
import dev.attune.Examples
import dev.attune.Feedback
import dev.attune.Message
import dev.attune.Model
import dev.attune.Session
import dev.attune.Thumb
import dev.attune.TuneOptions
import dev.attune.Tuner
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
import java.io.File

/** Where things are kept; [NightlyTuning] finds them there too. */
internal class Files(context: Context) {
    val feedback = File(context.filesDir, "attune/feedback")
    val adapters = File(context.filesDir, "attune/tuning")
    val adapter = File(adapters, "adapter.attune")

    init {
        adapters.mkdirs()
    }
}

/** How this app tunes. */
internal fun TuneOptions.ours() {
    rank = RANK
    alpha = 2f * RANK
    learningRate = 2e-3f
    epochs = 20
    gradientAccumulation = 2
    maxLength = 128
}

internal const val RANK = 8

/** A conversation, what people make of it, and what is learnt of it. */
internal class Chat private constructor(private val files: Files, private val model: Model, private val feedback: Feedback) : AutoCloseable {
    private val turns = ArrayList<Message>()
    private var session: Session? = null

    /** The prompt, and the number in the feedback store of each answer that was given. */
    private val answers = LinkedHashMap<Long, Int>()

    /** The answer's text as it comes. */
    fun say(text: String): Flow<String> = flow {
        val session = session ?: open().also { session = it }
        val asked = turns + Message.user(text)
        val said = StringBuilder()
        session.stream(asked) { maxTokens = 60; temperature = 0.3f }.collect {
            said.append(it)
            emit(said.toString())
        }
        val prompt = feedback.addPrompt(asked)
        // Both or none: an answer that failed leaves the conversation as it was.
        turns += listOf(asked.last(), Message.assistant(said.toString()))
        answers[feedback.addAnswer(prompt, said.toString())] = turns.lastIndex
    }

    /** The last answer's number, for [rate]. */
    val last: Long? get() = answers.keys.lastOrNull()

    suspend fun rate(answer: Long, liked: Boolean) = feedback.addThumb(answer, if (liked) Thumb.UP else Thumb.DOWN)

    /** Learns what is said in this conversation, at once; gives how many updates that took. The next answer is the tuned model's. */
    suspend fun learn(onProgress: (Int) -> Unit): Long = Examples().use { examples ->
        examples.add(turns.toList())
        val start = if (files.adapter.exists()) model.adapter(files.adapter) else null
        start.use {
            Tuner.sft(model, examples, start = start) { ours() }.use { tuner ->
                tuner.updates().collect { onProgress((100 * it.step / it.totalSteps).toInt()) }
                tuner.adapter().use { it.commit(files.adapters) }
                session?.close()
                session = null
                tuner.progress.step
            }
        }
    }

    private suspend fun open(): Session {
        val session = model.session { maxRank = RANK }
        if (files.adapter.exists()) model.adapter(files.adapter).use { session.addAdapter(it) }
        return session
    }

    override fun close() {
        session?.close()
        feedback.close()
        model.close()
    }

    companion object {
        suspend fun open(context: Context): Chat {
            val files = Files(context)
            // An app that ships brings its model: Model.fromAsset(context, "model.gguf"), or Model.open(file) of one that it has fetched.
            val model = Model.builtIn()
            return try {
                Chat(files, model, Feedback.open(files.feedback))
            } catch (@Suppress("TooGenericExceptionCaught") e: Throwable) {
                model.close()
                throw e
            }
        }
    }
}
