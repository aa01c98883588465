package dev.attune

import android.content.Context
import android.net.Uri
import android.os.ParcelFileDescriptor
import dev.attune.internal.AndroidFiles
import dev.attune.internal.Handle
import dev.attune.internal.Native
import dev.attune.internal.Numbers
import dev.attune.internal.ReadListener
import dev.attune.internal.blocking
import dev.attune.internal.bytes
import dev.attune.internal.cancellable
import dev.attune.internal.making
import java.io.File
import java.nio.ByteBuffer

/** A turn of a conversation. */
public data class Message(
    /** `system`, `user`, `assistant` or `tool`. */
    val role: String,
    /** What is said. */
    val content: String,
) {
    public companion object {
        /** What the model is told beforehand. */
        public fun system(content: String): Message = Message("system", content)
        /** What a person says. */
        public fun user(content: String): Message = Message("user", content)
        /** What the model says. */
        public fun assistant(content: String): Message = Message("assistant", content)
    }
}

/** What a model is. */
public data class ModelInfo(
    /** Blocks. */
    val layers: Int,
    /** Width of the residual stream. */
    val width: Int,
    /** Width of the feed-forward part. */
    val feedForward: Int,
    /** Query heads. */
    val heads: Int,
    /** Key and value heads. */
    val kvHeads: Int,
    /** Width of a head. */
    val headDim: Int,
    /** Entries of the vocabulary. */
    val vocabulary: Int,
    /** Tokens of the longest context that it was trained for. */
    val context: Int,
    /** Whether the file has a tokenizer: without one, only token ids can be used. */
    val hasTokenizer: Boolean,
    /** Bytes of the file. */
    val fileBytes: Long,
)

/** What a model makes of examples. */
public data class Evaluation(
    /** Examples with at least one target. */
    val examples: Int,
    /** Tokens that were to be predicted. */
    val targetTokens: Long,
    /** Mean negative log-probability of the targets, natural logarithm. */
    val loss: Double,
    /** `e^loss`. */
    val perplexity: Double,
    /** Share of targets that were the likeliest token. */
    val tokenAccuracy: Double,
)

/** Bytes of a model that the app gives: an encrypted store, an archive. All of them are read into memory when the model is opened. */
public interface ModelSource {
    /** Bytes of the model file. */
    public val length: Long

    /** Reads [size] bytes from [offset] on into the beginning of [buffer], all of them. What it throws, the opening throws. */
    public fun read(offset: Long, buffer: ByteArray, size: Int)
}

/**
 * An opened model. Sessions, adapters and tuners keep what they need of it: it may be closed before them. Its functions may be called from several coroutines at
 * once.
 */
public class Model private constructor(address: Long) : AutoCloseable {
    internal val handle = Handle("a model", address, Native::modelFree)

    /** What it is. */
    public val info: ModelInfo = Numbers(Native.modelInfo(address)).run {
        ModelInfo(int(), int(), int(), int(), int(), int(), int(), int(), flag(), long())
    }

    /** All that there is to know about it, as JSON: architecture, tensors by type, tokenizer, chat template, hash. Reads the whole file. */
    public suspend fun describe(): String = blocking { handle.use { Native.modelDescribe(it) }.decodeToString() }

    /** The tokens of a text; what looks like a special token is one if [parseSpecial]. No start or end is added. */
    public suspend fun tokenize(text: String, parseSpecial: Boolean = false): IntArray =
        blocking { handle.use { Native.modelTokenize(it, text.encodeToByteArray(), parseSpecial) } }

    /** Begins a conversation: plans and takes all memory that it will have, but for adapters that are added later. */
    public suspend fun session(options: SessionOptions.() -> Unit = {}): Session {
        val packed = SessionOptions().apply(options).pack()
        return making { Session(handle.use { Native.sessionNew(it, packed) }) }
    }

    /** What a session with these options will take. With a budget that nothing fits, [AttuneException.neededBytes] of the error would do. */
    public suspend fun planSession(options: SessionOptions.() -> Unit = {}): Plan {
        val packed = SessionOptions().apply(options).pack()
        return blocking { Plan.take(handle.use { Native.planSession(it, packed) }) }
    }

    /** What supervised tuning with these options will take; [Tuner.plan] has what a tuner has taken. */
    public suspend fun planTuning(options: TuneOptions.() -> Unit = {}): Plan {
        val packed = TuneOptions().apply(options).pack()
        return blocking { Plan.take(handle.use { Native.planTuning(it, packed) }) }
    }

    /**
     * Opens an adapter for this model, whatever its form: a native file, a run folder, a PEFT folder, a GGUF LoRA file. A native one that was tuned on another
     * model is refused with [Status.ERROR_OTHER_BASE], unless [anyBase]; its widths must fit all the same.
     */
    public suspend fun adapter(path: File, anyBase: Boolean = false): Adapter =
        making { Adapter(handle.use { Native.adapterOpen(it, path.bytes, anyBase) }) }

    /** A model that scores answers: this one with an adapter that [Tuner.reward] made. */
    public suspend fun rewardModel(adapter: Adapter, options: RewardOptions.() -> Unit = {}): RewardModel {
        val packed = RewardOptions().apply(options).pack()
        return making { RewardModel(handle.use { model -> adapter.handle.use { Native.rewardNew(model, it, packed) } }) }
    }

    /** Measures the model, with or without an adapter, on examples. Cancelling the coroutine ends it. */
    public suspend fun evaluate(examples: Examples, adapter: Adapter? = null, options: EvaluateOptions.() -> Unit = {}): Evaluation {
        val packed = EvaluateOptions().apply(options).pack()
        val numbers = handle.cancellable { model, cancel ->
            examples.handle.use { data -> adapter.onAddress { Native.evaluate(model, data, packed, it, cancel) } }
        }
        return Numbers(numbers).run { Evaluation(int(), long(), double(), double(), double()) }
    }

    /** Closes it. What was made from it goes on; its file stays mapped until the last of that is closed. */
    override fun close(): Unit = handle.close()

    public companion object {
        /** Opens a GGUF file and maps it: pages are read when they are used, and shared with other processes. The file must not change while it is open. */
        public suspend fun open(file: File): Model = making { Model(Native.modelOpen(file.bytes)) }

        /**
         * Opens [length] bytes from [offset] on of a file that is open already; a length of 0 means up to the file's end. The descriptor stays the caller's, who
         * may close it then. A part that does not begin at a multiple of 64 is read into memory; otherwise it is mapped. [name] is what messages call it.
         */
        public suspend fun open(descriptor: ParcelFileDescriptor, offset: Long = 0, length: Long = 0, name: String = "descriptor"): Model =
            making { Model(Native.modelOpenDescriptor(descriptor.fd, offset, length, name.encodeToByteArray())) }

        /** Opens what a content URI stands for, such as a file that the user has picked: through its descriptor, mapped where it is a file. */
        public suspend fun open(context: Context, uri: Uri): Model = making { AndroidFiles.open(context, uri) }

        /**
         * Opens an asset of the app. One that is stored uncompressed (`noCompress += "gguf"`) is mapped where it begins at a multiple of 64, else read into
         * memory; one that is compressed is unpacked into memory.
         */
        public suspend fun fromAsset(context: Context, name: String): Model = making { AndroidFiles.asset(context, name) }

        /** Opens a model whose bytes the app gives. */
        public suspend fun open(source: ModelSource, name: String = "source"): Model = making {
            val reader = ReadListener { offset, buffer, size ->
                source.read(offset, buffer, size)
                true
            }
            Model(Native.modelOpenReader(reader, source.length, name.encodeToByteArray()))
        }

        /** Opens a model that lies in a direct buffer, all of it, which must stay as it is until the model and all that was made from it are closed. */
        public suspend fun open(bytes: ByteBuffer, name: String = "memory"): Model = making { ofMemory(bytes, name) }

        /** The small model of the artifact `attune-base`, to try things with. [Status.ERROR_IO] where that is not among the app's dependencies. */
        public suspend fun builtIn(): Model = making {
            val bytes = Model::class.java.getResourceAsStream("/dev/attune/base/attune-base.gguf")?.use { it.readBytes() }
                ?: throw AttuneException.of(Status.ERROR_IO, "the built-in model: expected it among the dependencies, found it missing; add dev.attune:attune-base")
            ofMemory(direct(bytes), "attune-base.gguf")
        }

        internal fun ofMemory(bytes: ByteBuffer, name: String): Model {
            if (!bytes.isDirect) throw AttuneException.of(Status.ERROR_OPTION, "bytes: expected a direct buffer, found another; use ByteBuffer.allocateDirect")
            return Model(Native.modelOpenMemory(bytes, name.encodeToByteArray()))
        }

        internal fun ofDescriptor(descriptor: Int, offset: Long, length: Long, name: String): Model =
            Model(Native.modelOpenDescriptor(descriptor, offset, length, name.encodeToByteArray()))

        internal fun direct(bytes: ByteArray): ByteBuffer = ByteBuffer.allocateDirect(bytes.size).put(bytes)
    }
}

/** Runs [block] on an adapter's address, or on none. */
internal inline fun <T> Adapter?.onAddress(block: (Long) -> T): T = if (this == null) block(0) else handle.use { block(it) }

/** Runs [block] on the address of examples, or on none. */
internal inline fun <T> Examples?.onAddress(block: (Long) -> T): T = if (this == null) block(0) else handle.use { block(it) }
