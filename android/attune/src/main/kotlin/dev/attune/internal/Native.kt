package dev.attune.internal

import dev.attune.AttuneException
import java.nio.ByteBuffer

/*
 * What the native library calls, and what it is called by. Texts are UTF-8 in arrays of bytes, lists of them as Marshal.packed makes them; structs of attune.h
 * are arrays of their numbers, floats as their bits. Consumer ProGuard rules keep these names.
 */

/** Hears of an answer's text; false ends the answer. */
internal fun interface TokenListener {
    fun onToken(text: ByteArray): Boolean
}

/** Hears of an update; false pauses the run. */
internal fun interface StepListener {
    fun onStep(progress: LongArray): Boolean
}

/** Hears of what happens, from any thread. */
internal fun interface LogListener {
    fun onLog(level: Int, message: ByteArray)
}

/** Scores answers: gets the prompt and the answers, gives a number for each answer. */
internal fun interface RewardListener {
    fun onScore(texts: ByteArray): DoubleArray
}

/** Reads [size] bytes from [offset] on into the beginning of [buffer]; false where it cannot. */
internal fun interface ReadListener {
    fun onRead(offset: Long, buffer: ByteArray, size: Int): Boolean
}

/** The native methods: each calls one function of the C ABI, whose name says which. They are registered when the library is loaded. */
@Suppress("TooManyFunctions", "LongParameterList")
internal object Native {
    init {
        val path = System.getProperty("attune.library")
        if (path.isNullOrEmpty()) System.loadLibrary("attune_jni") else System.load(path)
        val found = abiVersion()
        if (found != ABI_VERSION) {
            throw UnsatisfiedLinkError("attune_jni: expected the library of ABI version $ABI_VERSION, found $found; use the one that comes with these classes")
        }
    }

    /** `ATTUNE_ABI_VERSION` of the header that these classes were written for. */
    const val ABI_VERSION: Int = 1

    /** Makes the exception that a native method throws; called by the library. */
    @JvmStatic
    fun failure(status: Int, detail: Int, needed: Long, message: ByteArray): Throwable =
        AttuneException.of(status, message.decodeToString(), detail, needed)

    @JvmStatic external fun abiVersion(): Int
    @JvmStatic external fun version(): ByteArray
    @JvmStatic external fun statusName(status: Int): ByteArray
    @JvmStatic external fun defaults(struct: ByteArray): LongArray
    @JvmStatic external fun cancelNew(): Long
    @JvmStatic external fun cancelAsk(cancel: Long)
    @JvmStatic external fun cancelFree(cancel: Long)
    @JvmStatic external fun logSet(level: Int, listener: LogListener?)

    @JvmStatic external fun modelOpen(path: ByteArray): Long
    @JvmStatic external fun modelOpenDescriptor(descriptor: Int, offset: Long, length: Long, name: ByteArray): Long
    @JvmStatic external fun modelOpenReader(reader: ReadListener, length: Long, name: ByteArray): Long
    @JvmStatic external fun modelOpenMemory(bytes: ByteBuffer, name: ByteArray): Long
    @JvmStatic external fun modelInfo(model: Long): LongArray
    @JvmStatic external fun modelDescribe(model: Long): ByteArray
    @JvmStatic external fun inspect(path: ByteArray): ByteArray
    @JvmStatic external fun modelTokenize(model: Long, text: ByteArray, parseSpecial: Boolean): IntArray
    @JvmStatic external fun modelFree(model: Long)

    @JvmStatic external fun planSession(model: Long, options: LongArray): Long
    @JvmStatic external fun planTuning(model: Long, options: LongArray): Long
    @JvmStatic external fun planTotals(plan: Long): LongArray
    @JvmStatic external fun planBuffer(plan: Long, index: Int): ByteArray
    @JvmStatic external fun planExtents(plan: Long, index: Int): LongArray
    @JvmStatic external fun planDescribe(plan: Long): ByteArray
    @JvmStatic external fun planFree(plan: Long)

    @JvmStatic external fun sessionSize(model: Long, options: LongArray): Long
    @JvmStatic external fun sessionNew(model: Long, options: LongArray): Long
    @JvmStatic external fun sessionChat(
        session: Long, turns: ByteArray, options: LongArray, stop: ByteArray, listener: TokenListener?, cancel: Long,
    ): LongArray
    @JvmStatic external fun sessionComplete(
        session: Long, text: ByteArray, options: LongArray, stop: ByteArray, listener: TokenListener?, cancel: Long,
    ): LongArray
    @JvmStatic external fun sessionContinue(
        session: Long, ids: IntArray, options: LongArray, stop: ByteArray, listener: TokenListener?, cancel: Long,
    ): LongArray
    @JvmStatic external fun sessionText(session: Long): ByteArray
    @JvmStatic external fun sessionTokens(session: Long): IntArray
    @JvmStatic external fun sessionAddAdapter(session: Long, adapter: Long, scale: Float): Int
    @JvmStatic external fun sessionScaleAdapter(session: Long, index: Int, scale: Float)
    @JvmStatic external fun sessionReset(session: Long)
    @JvmStatic external fun sessionPlan(session: Long): Long
    @JvmStatic external fun sessionFree(session: Long)

    @JvmStatic external fun adapterOpen(model: Long, path: ByteArray, anyBase: Boolean): Long
    @JvmStatic external fun adapterSave(adapter: Long, path: ByteArray)
    @JvmStatic external fun adapterExport(adapter: Long, model: Long, format: Int, path: ByteArray)
    @JvmStatic external fun adapterInfo(adapter: Long): LongArray
    @JvmStatic external fun adapterCommit(adapter: Long, folder: ByteArray): Long
    @JvmStatic external fun adapterVersions(folder: ByteArray): LongArray
    @JvmStatic external fun adapterRollback(folder: ByteArray, version: Long): Long
    @JvmStatic external fun adapterFree(adapter: Long)

    @JvmStatic external fun dataNew(): Long
    @JvmStatic external fun dataOpen(path: ByteArray): Long
    @JvmStatic external fun dataAddExample(data: Long, turns: ByteArray)
    @JvmStatic external fun dataAddAnswer(data: Long, prompt: ByteArray, answer: ByteArray)
    @JvmStatic external fun dataAddPrompt(data: Long, turns: ByteArray)
    @JvmStatic external fun dataAddPair(data: Long, turns: ByteArray, chosen: ByteArray, rejected: ByteArray)
    @JvmStatic external fun dataAddRating(data: Long, turns: ByteArray, answer: ByteArray, liked: Boolean)
    @JvmStatic external fun dataAddRanking(data: Long, turns: ByteArray, answers: ByteArray)
    @JvmStatic external fun dataAddLines(data: Long, lines: ByteArray)
    @JvmStatic external fun dataCount(data: Long): Long
    @JvmStatic external fun dataFree(data: Long)

    @JvmStatic external fun tunerNew(
        model: Long, data: Long, options: LongArray, method: ByteArray?, lossType: ByteArray?, others: LongArray,
        reinforce: LongArray?, rewards: ByteArray, weights: DoubleArray, listener: RewardListener?,
    ): Long
    @JvmStatic external fun tunerRun(tuner: Long, options: LongArray, listener: StepListener?, cancel: Long): LongArray
    @JvmStatic external fun tunerProgress(tuner: Long): LongArray
    @JvmStatic external fun tunerAdapter(tuner: Long): Long
    @JvmStatic external fun tunerCheckpoint(tuner: Long, folder: ByteArray)
    @JvmStatic external fun tunerResume(tuner: Long, folder: ByteArray)
    @JvmStatic external fun tunerPlan(tuner: Long): Long
    @JvmStatic external fun tunerDescribe(tuner: Long): ByteArray
    @JvmStatic external fun tunerFree(tuner: Long)
    @JvmStatic external fun evaluate(model: Long, data: Long, options: LongArray, adapter: Long, cancel: Long): LongArray
    @JvmStatic external fun rewardNew(model: Long, adapter: Long, options: LongArray): Long
    @JvmStatic external fun rewardScore(reward: Long, turns: ByteArray, answers: ByteArray): FloatArray
    @JvmStatic external fun rewardFree(reward: Long)

    @JvmStatic external fun feedbackOpen(path: ByteArray, options: LongArray): Long
    @JvmStatic external fun feedbackAddPrompt(feedback: Long, turns: ByteArray, conversation: ByteArray?): Long
    @JvmStatic external fun feedbackAddAnswer(feedback: Long, prompt: Long, answer: ByteArray): Long
    @JvmStatic external fun feedbackAddThumb(feedback: Long, answer: Long, thumb: Int)
    @JvmStatic external fun feedbackAddEdit(feedback: Long, answer: Long, edited: ByteArray): Long
    @JvmStatic external fun feedbackAddRegenerated(feedback: Long, answer: Long, other: ByteArray): Long
    @JvmStatic external fun feedbackAddKept(feedback: Long, answer: Long)
    @JvmStatic external fun feedbackAddRank(feedback: Long, answers: LongArray)
    @JvmStatic external fun feedbackFlush(feedback: Long)
    @JvmStatic external fun feedbackData(feedback: Long, learn: Int): Long
    @JvmStatic external fun feedbackDescribe(feedback: Long, learn: Int): ByteArray
    @JvmStatic external fun feedbackExport(feedback: Long, learn: Int, path: ByteArray): Long
    @JvmStatic external fun feedbackExportEvents(feedback: Long, path: ByteArray): Long
    @JvmStatic external fun feedbackEraseConversation(feedback: Long, conversation: ByteArray): Long
    @JvmStatic external fun feedbackErase(feedback: Long, ids: LongArray): Long
    @JvmStatic external fun feedbackEraseAll(feedback: Long): Long
    @JvmStatic external fun feedbackFree(feedback: Long)
}
