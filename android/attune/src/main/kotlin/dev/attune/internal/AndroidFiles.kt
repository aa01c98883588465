package dev.attune.internal

import android.content.Context
import android.content.res.AssetFileDescriptor
import android.net.Uri
import dev.attune.AttuneException
import dev.attune.Model
import dev.attune.Status
import java.io.FileNotFoundException
import java.io.IOException

/** Files that Android gives by descriptor. Apart from [Model], so that a JVM without Android can load that. */
internal object AndroidFiles {
    fun open(context: Context, uri: Uri): Model {
        val descriptor = try {
            context.contentResolver.openFileDescriptor(uri, "r")
        } catch (e: IOException) {
            throw missing("$uri", e)
        } catch (e: SecurityException) {
            throw missing("$uri", e)
        } ?: throw missing("$uri", null)
        return descriptor.use { Model.ofDescriptor(it.fd, 0, 0, "$uri") }
    }

    fun asset(context: Context, name: String): Model {
        val stored: AssetFileDescriptor = try {
            context.assets.openFd(name)
        } catch (_: FileNotFoundException) {
            // Missing, or compressed.
            return unpacked(context, name)
        }
        return stored.use { Model.ofDescriptor(it.parcelFileDescriptor.fd, it.startOffset, it.length, name) }
    }

    private fun unpacked(context: Context, name: String): Model {
        val bytes = try {
            context.assets.open(name).use { it.readBytes() }
        } catch (e: IOException) {
            throw missing("the asset $name", e)
        }
        return Model.ofMemory(Model.direct(bytes), name)
    }

    private fun missing(what: String, cause: Exception?): AttuneException =
        AttuneException.of(Status.ERROR_IO, "$what: expected a file that can be read: ${cause?.message ?: "nothing is there"}").also { if (cause != null) it.initCause(cause) }
}
