package dev.attune.android

import android.content.ContentProvider
import android.content.ContentValues
import android.content.Context
import android.content.res.AssetManager
import android.database.Cursor
import android.net.Uri
import android.os.ParcelFileDescriptor
import dev.attune.AttuneException
import dev.attune.Model
import dev.attune.ModelInfo
import dev.attune.Status
import kotlinx.coroutines.runBlocking
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNotEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import java.io.File
import java.io.FileNotFoundException
import java.util.zip.CRC32
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream

private val modelFile = File(System.getProperty("attune.root"), "builtin/assets/attune-base.gguf")

/** Gives the model to those who ask for it by a content URI. */
class Provider : ContentProvider() {
    override fun onCreate() = true
    override fun openFile(uri: Uri, mode: String): ParcelFileDescriptor {
        if (uri.lastPathSegment != "model") throw FileNotFoundException("$uri")
        return ParcelFileDescriptor.open(modelFile, ParcelFileDescriptor.MODE_READ_ONLY)
    }
    override fun query(uri: Uri, p: Array<String>?, s: String?, a: Array<String>?, o: String?): Cursor? = null
    override fun getType(uri: Uri): String? = null
    override fun insert(uri: Uri, values: ContentValues?): Uri? = null
    override fun delete(uri: Uri, s: String?, a: Array<String>?) = 0
    override fun update(uri: Uri, values: ContentValues?, s: String?, a: Array<String>?) = 0
}

@RunWith(RobolectricTestRunner::class)
class FilesTest {
    private val context: Context = RuntimeEnvironment.getApplication()

    private fun info(open: suspend () -> Model): ModelInfo = runBlocking { open().use { it.info } }

    private val expected by lazy { info { Model.open(modelFile) } }

    @Test
    fun a_model_opens_by_its_descriptor() {
        ParcelFileDescriptor.open(modelFile, ParcelFileDescriptor.MODE_READ_ONLY).use { descriptor ->
            assertEquals(expected, info { Model.open(descriptor) })
        }
    }

    @Test
    fun a_part_of_a_file_opens_wherever_it_begins() {
        val bytes = modelFile.readBytes()
        for (offset in listOf(64, 100)) {
            val file = File.createTempFile("part", null, context.cacheDir).apply { writeBytes(ByteArray(offset) + bytes + ByteArray(33)) }
            ParcelFileDescriptor.open(file, ParcelFileDescriptor.MODE_READ_ONLY).use { descriptor ->
                assertEquals(expected, info { Model.open(descriptor, offset.toLong(), bytes.size.toLong(), "part") })
            }
        }
    }

    @Test
    fun a_model_opens_by_its_content_uri() {
        Robolectric.setupContentProvider(Provider::class.java, "dev.attune.test")
        assertEquals(expected, info { Model.open(context, Uri.parse("content://dev.attune.test/model")) })
        val error = assertThrows(AttuneException.Resource::class.java) { info { Model.open(context, Uri.parse("content://dev.attune.test/other")) } }
        assertEquals(Status.ERROR_IO, error.code)
    }

    /** Adds files to the app's assets: an archive as an APK is. */
    private fun addAssets(vararg names: Pair<String, Int>) {
        val bytes = modelFile.readBytes()
        val archive = File(context.cacheDir, "assets.apk")
        ZipOutputStream(archive.outputStream()).use { zip ->
            for ((name, how) in names) {
                val entry = ZipEntry("assets/$name")
                if (how == ZipEntry.STORED) {
                    entry.size = bytes.size.toLong()
                    entry.crc = CRC32().apply { update(bytes) }.value
                }
                entry.method = how
                zip.putNextEntry(entry)
                zip.write(bytes)
            }
        }
        val added = AssetManager::class.java.getMethod("addAssetPath", String::class.java).invoke(context.assets, archive.path)
        assertNotEquals(0, added)
    }

    @Test
    fun a_model_opens_from_the_apps_assets_compressed_or_not() {
        addAssets("stored.gguf" to ZipEntry.STORED, "packed.gguf" to ZipEntry.DEFLATED)
        assertTrue("it lies within the archive", context.assets.openFd("stored.gguf").use { it.startOffset > 0 && it.length == modelFile.length() })
        assertEquals(expected, info { Model.fromAsset(context, "stored.gguf") })
        assertEquals(expected, info { Model.fromAsset(context, "packed.gguf") })
        val error = assertThrows(AttuneException.Resource::class.java) { info { Model.fromAsset(context, "missing.gguf") } }
        assertEquals(Status.ERROR_IO, error.code)
    }
}
