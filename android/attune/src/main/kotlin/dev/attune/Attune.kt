package dev.attune

import dev.attune.internal.LogListener
import dev.attune.internal.Native
import kotlinx.coroutines.CoroutineDispatcher
import kotlinx.coroutines.Dispatchers
import java.io.File

/** What concerns all of the library. */
public object Attune {
    /** The native library's version, as `1.2.3`. */
    public val version: String get() = Native.version().decodeToString()

    /** The version of the C ABI that the native library has. */
    public val abiVersion: Int get() = Native.abiVersion()

    /** Where the functions that suspend do their work, which blocks a thread each: never the main thread's. */
    @Volatile
    public var dispatcher: CoroutineDispatcher = Dispatchers.IO

    /**
     * Sends what happens to [listener], in place of the one before; null for none. It is called in any thread, several at once, and must not call the library;
     * what it throws is dropped. When this returns, the one before is not called any more.
     */
    public fun log(level: LogLevel, listener: ((LogLevel, String) -> Unit)?) {
        Native.logSet(level.code, listener?.let { hear -> LogListener { code, message -> hear(coded(code), message.decodeToString()) } })
    }

    /** What a file or folder is, as JSON: a GGUF file that need not be a model that runs, or an adapter in any form. */
    public suspend fun inspect(path: File): String = dev.attune.internal.blocking { Native.inspect(path.path.encodeToByteArray()).decodeToString() }
}
