package dev.attune

import dev.attune.internal.Handle
import dev.attune.internal.Native
import dev.attune.internal.Numbers
import dev.attune.internal.blocking
import dev.attune.internal.bytes
import java.io.File

/** What an adapter is. */
public data class AdapterInfo(
    /** R. */
    val rank: Int,
    /** α. */
    val alpha: Float,
    /** Whether the scale is `alpha / sqrt(rank)`; else it is `alpha / rank`. */
    val useRslora: Boolean,
    /** Which linears it is on. */
    val targetModules: Set<Module>,
    /** The lowest adapted layer. */
    val firstLayer: Int,
    /** How many layers from there on. */
    val layers: Int,
    /** How many numbers it has. */
    val parameters: Long,
    /** Updates that made it; 0 where that is not known. */
    val steps: Long,
)

/** An adapter in memory. It does not change; tuning gives new ones. May be used from several coroutines at once. */
public class Adapter internal constructor(address: Long) : AutoCloseable {
    internal val handle = Handle("an adapter", address, Native::adapterFree)

    /** What it is. */
    public val info: AdapterInfo = Numbers(Native.adapterInfo(address)).run {
        AdapterInfo(int(), float(), flag(), Module.of(int()), int(), int(), long(), long())
    }

    /** Writes it to a native file, whole or not at all. */
    public suspend fun save(file: File): Unit = blocking { handle.use { Native.adapterSave(it, file.bytes) } }

    /** Writes it in another form: a file, or for PEFT a folder. */
    public suspend fun export(model: Model, format: Format, path: File): Unit =
        blocking { handle.use { adapter -> model.handle.use { Native.adapterExport(adapter, it, format.code, path.bytes) } } }

    /**
     * Makes it the one of a folder, as `adapter.attune` in it; the one that was there becomes a version, of which the newest 16 stay. Gives the version's number, or
     * 0 if there was none. [Model.adapter] opens the folder.
     */
    public suspend fun commit(folder: File): Long = blocking { handle.use { Native.adapterCommit(it, folder.bytes) } }

    /** Closes it; sessions that use it keep their copy. */
    override fun close(): Unit = handle.close()

    public companion object {
        /** The numbers of a folder's earlier adapters, the oldest first. */
        public suspend fun versions(folder: File): List<Long> = blocking { Native.adapterVersions(folder.bytes).toList() }

        /**
         * Brings an earlier adapter of a folder back: [version], or the newest for 0. The one that it replaces becomes a version too. Gives the number of the one that
         * is back.
         */
        public suspend fun rollback(folder: File, version: Long = 0): Long = blocking { Native.adapterRollback(folder.bytes, version) }
    }
}
