package dev.attune

import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.awaitAll
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.flow.take
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.test.runTest
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Assert.fail
import org.junit.Before
import org.junit.Test

class SessionTest {
    private lateinit var model: Model

    @Before
    fun open() = runBlocking { model = Model.builtIn() }

    @After
    fun close() = model.close()

    /** Goes on until it is ended: a special token is no more likely than others. */
    private fun GenerateOptions.endless() {
        maxTokens = 200
        temperature = 50f
        topK = 0
        topP = 1f
    }

    @Test
    fun an_answer_is_what_its_parts_add_up_to() = test {
        model.session().use { session ->
            val parts = ArrayList<String>()
            val answer = session.chat("What does a cow say?", { parts.add(it) }) { greedy() }
            assertEquals(answer.text, parts.joinToString(""))
            assertTrue(answer.promptTokens > 0 && answer.answerTokens in 1..12)
            assertEquals(answer.answerTokens.toLong(), session.tokens().size.toLong())
            assertEquals(answer.text, session.stream("What does a cow say?") { greedy() }.toList().joinToString(""))
            session.reset()
            assertEquals(answer.text, session.chat(listOf(Message.user("What does a cow say?"))) { greedy() }.text)
        }
    }

    @Test
    fun options_reach_the_answer() = test {
        model.session { context = 64 }.use { session ->
            assertEquals(FinishReason.LENGTH, session.complete("The", options = { greedy(3) }).finishReason)
            val whole = session.complete("The cow says", options = { greedy(12) }).text
            val word = whole.trim().split(' ').first { it.isNotEmpty() }
            assertTrue(word !in session.complete("The cow says", options = { greedy(12); stop = listOf(word) }).text)
            val ids = model.tokenize("The cow says")
            assertTrue(session.complete(ids) { greedy(4) }.answerTokens in 1..4)
            refused(Status.ERROR_OPTION) { session.complete("The", options = { temperature = -1f }) }
            refused(Status.ERROR_OPTION) { session.complete("The", options = { maxTokens = -1 }) }
            refused(Status.ERROR_CONTEXT_FULL) { session.complete("cow ".repeat(300)) } as AttuneException.Ended
        }
        val error = refused(Status.ERROR_BUDGET) { model.session { budgetBytes = 1000 } } as AttuneException.Resource
        model.session { budgetBytes = error.neededBytes }.close()
    }

    @Test
    fun a_flow_that_nobody_collects_any_more_ends_the_answer() = test {
        model.session().use { session ->
            assertEquals(3, session.stream("Tell me.") { endless() }.take(3).toList().size)
            // Nothing is at work on it any more.
            assertTrue(session.chat("What does a cow say?") { greedy() }.answerTokens > 0)
        }
    }

    @Test
    fun cancelling_the_coroutine_ends_the_answer_at_once() = test {
        model.session().use { session ->
            val begun = CompletableDeferred<Unit>()
            val answering = async(Dispatchers.Default) {
                session.chat("Tell me.", { begun.complete(Unit); true }) { endless() }
            }
            begun.await()
            val asked = System.nanoTime()
            answering.cancelAndJoin()
            val millis = (System.nanoTime() - asked) / 1_000_000
            assertTrue("it took $millis ms", millis < 500)
            try {
                answering.await()
                fail("it was not cancelled")
            } catch (_: CancellationException) {
                // As it should be.
            }
            assertTrue(session.chat("What does a cow say?") { greedy() }.answerTokens > 0)
        }
    }

    @Test
    fun what_a_callback_throws_ends_the_answer_and_is_thrown_from_it() = test {
        class Own : RuntimeException("own")
        model.session().use { session ->
            var heard = 0
            val thrown = Own()
            try {
                session.chat("Tell me.", { if (++heard == 2) throw thrown else true }) { endless() }
                fail("it did not throw")
            } catch (e: Own) {
                assertTrue(e === thrown || e.cause === thrown)
            }
            assertEquals(2, heard)
            // An error too, and not an exception alone.
            try {
                session.chat("Tell me.", { throw StackOverflowError("own") }) { endless() }
                fail("it did not throw")
            } catch (e: StackOverflowError) {
                assertEquals("own", e.message)
            }
            assertTrue(session.chat("What does a cow say?") { greedy() }.answerTokens > 0)
        }
    }

    @Test
    fun a_session_takes_one_call_at_a_time() = test {
        model.session().use { session ->
            val answer = session.chat("What does a cow say?", {
                runBlocking { refused(Status.ERROR_BUSY) { session.reset() } }
                false
            })
            assertEquals(FinishReason.CANCELLED, answer.finishReason)
        }
    }

    @Test
    fun closing_a_session_that_is_at_work_ends_the_work() = test {
        val session = model.session()
        val begun = CompletableDeferred<Unit>()
        val answering = async(Dispatchers.Default) { session.chat("Tell me.", { begun.complete(Unit); true }) { endless() } }
        begun.await()
        session.close()
        assertEquals(FinishReason.CANCELLED, answering.await().finishReason)
        refused(Status.ERROR_HANDLE) { session.chat("Tell me.") }
    }

    @Test
    fun sessions_of_two_models_answer_at_the_same_time() = test {
        val alone = model.session().use { it.chat("What does a cow say?") { greedy() }.text }
        Model.open(modelFile).use { other ->
            val sessions = listOf(model.session { threads = 1 }, other.session { threads = 1 })
            repeat(3) {
                val answers = sessions.map { session ->
                    async(Dispatchers.Default) {
                        session.reset()
                        session.chat("What does a cow say?") { greedy() }.text
                    }
                }.awaitAll()
                assertEquals(listOf(alone, alone), answers)
            }
            sessions.forEach { it.close() }
        }
    }

    @Test
    fun text_of_every_plane_comes_through() = test {
        model.session().use { session ->
            val said = "né 你好 🦊 \u0000 end"
            val answer = session.chat(listOf(Message.system("be short"), Message.user(said))) { greedy(2) }
            val again = session.chat(listOf(Message.system("be short"), Message.user("né 你好 ? \u0000 end"))) { greedy(2) }
            assertTrue("a character beyond the first plane takes its bytes", answer.promptTokens > again.promptTokens)
        }
    }

    @Test
    fun a_test_with_virtual_time_works() = runTest {
        model.session().use { session ->
            val parts = ArrayList<String>()
            val job = launch { session.stream("What does a cow say?") { greedy() }.collect { parts += it } }
            job.join()
            assertTrue(parts.isNotEmpty())
        }
    }

    @Test
    fun many_answers_leave_no_references_behind() = test {
        model.session().use { session ->
            repeat(60) { round ->
                var heard = 0
                session.chat("What does a cow say?", { heard++; true }) { greedy(8); seed = round.toLong() }
                assertTrue(heard > 0)
            }
        }
    }
}
