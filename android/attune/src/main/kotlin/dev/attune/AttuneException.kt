package dev.attune

import dev.attune.internal.Native

/**
 * Why a call has failed. Subclasses are the groups of status codes, by what to do about them; [code] is the code itself, one of [Status], and [message] says what
 * was expected, what was found and what to do. A code that this version does not know belongs to the group of its hundred.
 *
 * A coroutine that is cancelled gets a [kotlinx.coroutines.CancellationException] as everywhere, and none of these.
 */
public sealed class AttuneException(
    message: String,
    /** One of [Status]. */
    public val code: Int,
    /** A finer number that stays the same in all versions, or 0. */
    public val detail: Int,
    /** Bytes that would do, with [Status.ERROR_BUDGET] and [Status.ERROR_TOO_SMALL]; else 0. */
    public val neededBytes: Long,
) : RuntimeException(message) {
    /** The code's name in `attune.h`. */
    public val codeName: String get() = Native.statusName(code).decodeToString()

    /** 1xx: the call itself is wrong, such as one on a session that is closed or at work elsewhere, or with an option out of range. */
    public class Misuse internal constructor(message: String, code: Int, detail: Int, neededBytes: Long) : AttuneException(message, code, detail, neededBytes)

    /** 2xx: the system did not give what was needed: a file, memory, threads, a budget that fits. */
    public class Resource internal constructor(message: String, code: Int, detail: Int, neededBytes: Long) : AttuneException(message, code, detail, neededBytes)

    /** 3xx: a file or data are not what they should be. */
    public class Content internal constructor(message: String, code: Int, detail: Int, neededBytes: Long) : AttuneException(message, code, detail, neededBytes)

    /** 4xx: the work came to an end before its time. */
    public class Ended internal constructor(message: String, code: Int, detail: Int, neededBytes: Long) : AttuneException(message, code, detail, neededBytes)

    /** 9xx, and whatever is unknown: a defect of the library. Close what was at work, and report it. */
    public class Defect internal constructor(message: String, code: Int, detail: Int, neededBytes: Long) : AttuneException(message, code, detail, neededBytes)

    internal companion object {
        fun of(code: Int, message: String, detail: Int = 0, neededBytes: Long = 0): AttuneException = when (code / 100) {
            1 -> Misuse(message, code, detail, neededBytes)
            2 -> Resource(message, code, detail, neededBytes)
            3 -> Content(message, code, detail, neededBytes)
            4 -> Ended(message, code, detail, neededBytes)
            else -> Defect(message, code, detail, neededBytes)
        }
    }
}

/** Status codes, as `attune.h` has them. None is ever given another meaning. */
public object Status {
    /** It is done. */
    public const val OK: Int = 0

    /** Something that must be there is not. */
    public const val ERROR_NULL: Int = 100
    /** What is used has been closed. */
    public const val ERROR_HANDLE: Int = 101
    /** The native library is of another version. */
    public const val ERROR_STRUCT_SIZE: Int = 102
    /** It is at work in another coroutine or thread, or the call comes from a callback of a call on it. */
    public const val ERROR_BUSY: Int = 103
    /** Text that is not UTF-8. */
    public const val ERROR_UTF8: Int = 104
    /** An option outside of its range; the message names it. */
    public const val ERROR_OPTION: Int = 105
    /** A call that comes at the wrong time, such as a run after the last update. */
    public const val ERROR_STATE: Int = 106
    /** Memory that was given is too small. */
    public const val ERROR_TOO_SMALL: Int = 107
    /** Memory that was given does not start where it has to. */
    public const val ERROR_ALIGNMENT: Int = 108

    /** A file cannot be read or written. */
    public const val ERROR_IO: Int = 200
    /** Memory cannot be had. */
    public const val ERROR_MEMORY: Int = 201
    /** Threads cannot be had. */
    public const val ERROR_THREADS: Int = 202
    /** Nothing fits the budget; [AttuneException.neededBytes] says what would. */
    public const val ERROR_BUDGET: Int = 203

    /** A file that is no GGUF model, or a damaged one. */
    public const val ERROR_MODEL: Int = 300
    /** A model that uses what is not supported. */
    public const val ERROR_UNSUPPORTED: Int = 301
    /** A tokenizer that is missing, or cannot be used. */
    public const val ERROR_TOKENIZER: Int = 302
    /** A chat template that cannot be read, or refuses a conversation. */
    public const val ERROR_TEMPLATE: Int = 303
    /** Examples that cannot be read. */
    public const val ERROR_DATA: Int = 304
    /** An adapter that cannot be read, written or used. */
    public const val ERROR_ADAPTER: Int = 305
    /** An adapter that was tuned on another model. */
    public const val ERROR_OTHER_BASE: Int = 306
    /** A checkpoint that is missing, damaged, or belongs to another run. */
    public const val ERROR_CHECKPOINT: Int = 307
    /** A feedback store that cannot be read or written, or an event that it refuses. */
    public const val ERROR_FEEDBACK: Int = 308

    /** It was cancelled. */
    public const val ERROR_CANCELLED: Int = 400
    /** The conversation is longer than the session's context. */
    public const val ERROR_CONTEXT_FULL: Int = 401
    /** Not one example can be learnt from. */
    public const val ERROR_NOTHING_TO_LEARN: Int = 402
    /** A loss or a gradient is no longer a number. */
    public const val ERROR_DIVERGED: Int = 403

    /** The library has failed in itself. */
    public const val ERROR_INTERNAL: Int = 900
    /** An earlier call on this object ended with [ERROR_INTERNAL]; all that can be done with it is to close it. */
    public const val ERROR_BROKEN: Int = 901
}
