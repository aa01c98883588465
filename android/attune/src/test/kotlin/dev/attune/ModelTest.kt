package dev.attune

import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import java.io.IOException
import java.nio.ByteBuffer

class ModelTest {
    @get:Rule
    val folder = TemporaryFolder()

    @Test
    fun a_model_opens_from_everywhere_and_is_the_same() = test {
        val bytes = modelFile.readBytes()
        val source = object : ModelSource {
            override val length = bytes.size.toLong()
            override fun read(offset: Long, buffer: ByteArray, size: Int) {
                bytes.copyInto(buffer, 0, offset.toInt(), offset.toInt() + size)
            }
        }
        val models = listOf(
            Model.builtIn(), Model.open(modelFile), Model.open(source), Model.open(ByteBuffer.allocateDirect(bytes.size).put(bytes), "bytes"),
        )
        val infos = models.map { it.info }
        assertEquals(1, infos.toSet().size)
        assertEquals(bytes.size.toLong(), infos[0].fileBytes)
        assertTrue(infos[0].hasTokenizer && infos[0].layers > 0 && infos[0].vocabulary > 100)
        // Each answers the same after the others are closed.
        val answers = models.map { model ->
            model.use { it.session() }.use { session -> session.chat("What does a cow say?") { greedy() }.text }
        }
        assertEquals(1, answers.toSet().size)
    }

    @Test
    fun a_model_says_what_it_is() = test {
        Model.builtIn().use { model ->
            assertTrue(model.describe().startsWith("{"))
            val ids = model.tokenize("What does a cow say? 你好 🦊")
            assertTrue(ids.isNotEmpty() && ids.all { it in 0 until model.info.vocabulary })
            assertArrayEquals(ids, model.tokenize("What does a cow say? 你好 🦊"))
        }
        assertTrue(Attune.inspect(modelFile).startsWith("{"))
        assertTrue(Attune.version.matches(Regex("""\d+\.\d+\.\d+.*""")))
        assertEquals(1, Attune.abiVersion)
    }

    @Test
    fun a_plan_lists_every_buffer_before_anything_is_taken() = test {
        Model.builtIn().use { model ->
            val plan = model.planSession { context = 128 }
            assertEquals(plan.totalBytes, plan.adapterBytes + plan.cacheBytes + plan.workBytes + plan.hostBytes)
            assertTrue(plan.buffers.isNotEmpty() && plan.buffers.all { it.name.isNotEmpty() && it.region.isNotEmpty() })
            assertTrue(plan.json.startsWith("{"))
            model.session { context = 128 }.use { assertEquals(plan.totalBytes, it.plan().totalBytes) }
            assertTrue(model.planTuning { rank = 16 }.adapterBytes > model.planTuning { rank = 4 }.adapterBytes)
        }
    }

    @Test
    fun errors_of_opening_say_what_they_are() = test {
        refused(Status.ERROR_IO) { Model.open(folder.root.resolve("missing.gguf")) } as AttuneException.Resource
        val broken = folder.newFile("broken.gguf").apply { writeText("no model") }
        refused(Status.ERROR_MODEL) { Model.open(broken) } as AttuneException.Content
        val cut = folder.newFile("cut.gguf").apply { writeBytes(modelFile.readBytes().copyOf(5000)) }
        refused(Status.ERROR_MODEL) { Model.open(cut) }
        refused(Status.ERROR_OPTION) { Model.open(ByteBuffer.allocate(64)) } as AttuneException.Misuse
    }

    @Test
    fun what_a_source_throws_comes_back() = test {
        val thrown = IOException("the store is locked")
        val source = object : ModelSource {
            override val length = 4096L
            override fun read(offset: Long, buffer: ByteArray, size: Int): Unit = throw thrown
        }
        try {
            Model.open(source)
            throw AssertionError("it opened")
        } catch (e: IOException) {
            assertTrue(e === thrown || e.cause === thrown)
        }
    }

    @Test
    fun use_after_close_is_an_error() = test {
        val model = Model.builtIn()
        model.close()
        model.close()
        refused(Status.ERROR_HANDLE) { model.session() } as AttuneException.Misuse
        refused(Status.ERROR_HANDLE) { model.describe() }
        val examples = Examples()
        examples.close()
        refused(Status.ERROR_HANDLE) { examples.add("a", "b") }
        refused(Status.ERROR_HANDLE) { examples.count }
    }

    @Test
    fun a_listener_hears_what_is_left_out_and_its_exceptions_harm_nobody() = test {
        val heard = java.util.Collections.synchronizedList(ArrayList<Pair<LogLevel, String>>())
        val lines = "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"a\", \"completion\": 5}\n"
        Model.builtIn().use { model ->
            Examples().use { examples ->
                examples.addLines(lines)
                Attune.log(LogLevel.WARN) { level, message ->
                    heard += level to message
                    error("a listener that throws")
                }
                try {
                    Tuner.sft(model, examples) { small() }.close()
                } finally {
                    Attune.log(LogLevel.OFF, null)
                }
                assertEquals(heard.toString(), 1, heard.size)
                assertTrue(heard[0].run { first == LogLevel.WARN && "line 2" in second })
                Tuner.sft(model, examples) { small() }.close()
                assertEquals("nothing is heard any more", 1, heard.size)
            }
        }
    }
}
