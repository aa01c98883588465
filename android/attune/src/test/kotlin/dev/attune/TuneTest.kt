package dev.attune

import dev.attune.examples.main
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.flow.take
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.runBlocking
import org.junit.After
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNotEquals
import org.junit.Assert.assertTrue
import org.junit.Assert.fail
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import java.io.ByteArrayOutputStream
import java.io.File
import java.io.PrintStream

class TuneTest {
    @get:Rule
    val folder = TemporaryFolder()
    private lateinit var model: Model
    private lateinit var examples: Examples

    @Before
    fun open() = runBlocking {
        model = Model.builtIn()
        examples = capitals()
    }

    @After
    fun close() {
        examples.close()
        model.close()
    }

    private fun file(name: String) = File(folder.root, name)

    @Test
    fun the_example_has_sixty_lines_and_learns() {
        val source = File(root, "android/example/Tune.kt").readLines()
        assertTrue("${source.size} lines", source.size <= 60)
        val said = ByteArrayOutputStream()
        val out = System.out
        System.setOut(PrintStream(said, true))
        try {
            main(arrayOf(file("adapter.attune").path))
        } finally {
            System.setOut(out)
        }
        val answers = said.toString().trim().lines()
        assertEquals("The capital of Portugal is Lisbon.", answers.last())
        assertNotEquals("it knew before it was tuned", answers.last(), answers.first())
    }

    @Test
    fun slices_checkpoints_and_cancellations_end_with_the_same_bytes() = test {
        Tuner.sft(model, examples) { small() }.use { tuner ->
            val run = tuner.run()
            assertEquals(Run(RunReason.DONE, 6), run)
            assertTrue(tuner.progress.run { done && step == 6L && loss.isFinite() && preferenceAccuracy.isNaN() })
            tuner.adapter().use { it.save(file("whole")) }
        }
        Tuner.sft(model, examples) { small() }.use { tuner ->
            assertEquals(Run(RunReason.STEPS, 2), tuner.run { maxSteps = 2 })
            assertEquals(RunReason.TIME, tuner.run { milliseconds = 1 }.reason)
            // A cancelled coroutine; what is done of an update is done again.
            val begun = CompletableDeferred<Unit>()
            val running = async(Dispatchers.Default) { tuner.run({ begun.complete(Unit); Thread.sleep(50); true }) }
            begun.await()
            running.cancelAndJoin()
            assertTrue(running.isCancelled && !tuner.progress.done)
            tuner.checkpoint(file("checkpoint"))
        }
        Tuner.sft(model, examples) { small() }.use { tuner ->
            tuner.resume(file("checkpoint"))
            assertTrue(tuner.progress.step in 3..5)
            assertEquals(RunReason.DONE, tuner.run().reason)
            tuner.adapter().use { it.save(file("parts")) }
        }
        assertArrayEquals(file("whole").readBytes(), file("parts").readBytes())
    }

    @Test
    fun progress_is_a_flow_and_a_run_can_be_paused() = test {
        Tuner.sft(model, examples, heldOut = examples) { small(); evalEvery = 2 }.use { tuner ->
            val first = tuner.updates().take(2).toList()
            assertEquals(listOf(1L, 2L), first.map { it.step }.distinct())
            val run = tuner.run({ tuner.pause(); true })
            assertEquals(RunReason.PAUSED, run.reason)
            val rest = tuner.updates().toList()
            assertTrue(rest.last().run { step == 6L && evalLoss.isFinite() })
            assertTrue(tuner.describe().contains("\"skipped\""))
            assertTrue(tuner.plan().totalBytes > 0)
        }
    }

    @Test
    fun what_a_listener_throws_comes_back_and_the_tuner_goes_on() = test {
        Tuner.sft(model, examples) { small() }.use { tuner ->
            try {
                tuner.run({ throw IllegalStateException("own") })
                fail("it did not throw")
            } catch (e: IllegalStateException) {
                assertEquals("own", e.message)
            }
            assertEquals(1L, tuner.progress.step)
            assertEquals(RunReason.DONE, tuner.run().reason)
            // All is done: there is nothing left.
            assertTrue(tuner.progress.done)
        }
    }

    @Test
    fun an_adapter_is_saved_switched_scaled_exported_and_rolled_back() = test {
        val adapter = Tuner.sft(model, examples) { small(); rank = 8; learningRate = 1e-2f; steps = 30 }.use { tuner ->
            tuner.run()
            tuner.adapter()
        }
        assertEquals(8, adapter.info.rank)
        assertEquals(Module.ALL, adapter.info.targetModules)
        assertEquals(30L, adapter.info.steps)
        model.session { maxRank = 8; adapterBytes = adapter.info.parameters * 4 }.use { session ->
            suspend fun answer(): String {
                session.reset()
                return session.chat("What is the capital of France?") { greedy() }.text
            }
            val without = answer()
            val index = session.addAdapter(adapter)
            val with = answer()
            assertNotEquals(without, with)
            session.scaleAdapter(index, 0f)
            assertEquals(without, answer())
            session.scaleAdapter(index, 1f)
            assertEquals(with, answer())
            refused(Status.ERROR_ADAPTER) { session.scaleAdapter(9, 1f) }
        }
        val runs = file("runs")
        assertEquals(0L, adapter.commit(runs))
        assertEquals(1L, adapter.commit(runs))
        assertEquals(listOf(1L), Adapter.versions(runs))
        assertEquals(1L, Adapter.rollback(runs))
        model.adapter(runs).use { assertEquals(adapter.info, it.info) }
        for (format in Format.entries) {
            adapter.export(model, format, file("as-$format"))
            model.adapter(file("as-$format")).use { assertEquals(8, it.info.rank) }
        }
        refused(Status.ERROR_IO) { model.adapter(file("missing")) }
        val broken = file("broken").apply { writeText("no adapter") }
        refused(Status.ERROR_ADAPTER) { model.adapter(broken) } as AttuneException.Content
        val before = model.evaluate(examples)
        val after = model.evaluate(examples, adapter)
        assertTrue(after.loss < before.loss && before.examples == 5 && after.perplexity < before.perplexity)
        adapter.close()
        refused(Status.ERROR_HANDLE) { adapter.save(file("late")) }
    }

    @Test
    fun preferences_are_learnt_from_pairs_ratings_and_rankings() = test {
        val prompt = listOf(Message.user("What does a cow say?"))
        val sets = mapOf(
            Preference.DPO to Examples().apply { repeat(4) { addPair(prompt, "moo", "woof") } },
            Preference.KTO to Examples().apply { addRating(prompt, "moo", true); addRating(prompt, "woof", false); addRating(prompt, "meow", false) },
            Preference.PLACKETT_LUCE to Examples().apply { repeat(2) { addRanking(prompt, listOf("moo", "meow", "woof")) } },
        )
        for ((method, set) in sets) {
            set.use {
                Tuner.prefer(model, set, method) { small(); steps = 2 }.use { tuner ->
                    assertEquals(method.name, Run(RunReason.DONE, 2), tuner.run())
                    assertTrue(method.name, tuner.progress.loss.isFinite())
                }
            }
        }
        refused(Status.ERROR_OPTION) {
            Examples().use { set ->
                set.addPair(prompt, "moo", "woof")
                Tuner.prefer(model, set) { small(); simpoGamma = 1.0 }
            }
        }
    }

    @Test
    fun a_reward_model_scores_answers() = test {
        val prompt = listOf(Message.user("What is the capital of France?"))
        val (worse, better) = "I would rather not say." to "The capital of France is Paris."
        val adapter = Examples().use { pairs ->
            repeat(4) { pairs.addPair(prompt, better, worse) }
            Tuner.reward(model, pairs) { small(); rank = 8; learningRate = 5e-3f; steps = 12 }.use { tuner ->
                tuner.run()
                tuner.adapter()
            }
        }
        val reward = model.rewardModel(adapter)
        adapter.close()
        val scores = reward.score(prompt, listOf(worse, better))
        assertTrue(scores.joinToString(), scores[1] > scores[0])
        reward.close()
        refused(Status.ERROR_HANDLE) { reward.score(prompt, listOf(worse)) }
    }

    @Test
    fun a_policy_learns_from_a_reward_of_the_apps() = test {
        class Own : RuntimeException("own")
        Examples().use { prompts ->
            prompts.addPrompt(listOf(Message.user("What is the capital of France?")))
            val asked = ArrayList<Int>()
            fun TuneOptions.tiny() { small(); steps = 2; batchSize = 4; gradientAccumulation = 1 }
            fun ReinforceOptions.tiny() { numGenerations = 4; maxCompletionLength = 8; maxKl = 0.0 }
            val brevity = Scorer { prompt, answers ->
                assertTrue("capital of France" in prompt)
                asked += answers.size
                DoubleArray(answers.size) { -answers[it].length.toDouble() }
            }
            Tuner.grpo(model, prompts, listOf(Reward("length:max=3", 0.5)), brevity, reinforce = { tiny() }) { tiny() }.use { tuner ->
                assertEquals(Run(RunReason.DONE, 2), tuner.run())
                assertTrue(tuner.progress.reward.isFinite())
            }
            assertEquals(listOf(4, 4), asked)
            Tuner.rloo(model, prompts, scorer = { _, answers -> DoubleArray(answers.size) }, reinforce = { tiny() }) { tiny() }.use { tuner ->
                assertEquals(RunReason.DONE, tuner.run().reason)
            }
            Tuner.grpo(model, prompts, scorer = { _, _ -> throw Own() }, reinforce = { tiny() }) { tiny() }.use { tuner ->
                try {
                    tuner.run()
                    fail("it did not throw")
                } catch (e: Own) {
                    assertEquals("own", e.message)
                }
            }
            Tuner.grpo(model, prompts, scorer = { _, _ -> DoubleArray(1) }, reinforce = { tiny() }) { tiny() }.use { tuner ->
                try {
                    tuner.run()
                    fail("it took one score for four answers")
                } catch (e: IllegalArgumentException) {
                    assertTrue(e.message!!, "4 answers" in e.message!!)
                }
            }
            refused(Status.ERROR_OPTION) { Tuner.grpo(model, prompts, reinforce = { tiny() }) { tiny() } }
        }
    }

    @Test
    fun cycles_of_opening_tuning_and_closing_leave_nothing_behind() = test {
        fun resident(): Long {
            System.gc()
            return File("/proc/self/statm").readText().split(' ')[1].toLong() * 4096
        }
        suspend fun cycle() = Model.open(modelFile).use { model ->
            capitals().use { set ->
                Tuner.sft(model, set) { small(); steps = 1; gradientAccumulation = 1 }.use { tuner ->
                    tuner.run({ true })
                    tuner.adapter().use { adapter -> model.session { maxRank = 4; context = 32 }.use { it.addAdapter(adapter) } }
                }
            }
        }
        repeat(40) { cycle() }
        val before = resident()
        repeat(160) { cycle() }
        val grown = (resident() - before) / 1024
        assertTrue("$grown KiB more after 160 cycles", grown < 24 * 1024)
    }

    @Test
    fun errors_of_tuning_say_what_they_are() = test {
        Examples().use { none -> refused(Status.ERROR_DATA) { Tuner.sft(model, none) } as AttuneException.Content }
        Examples().use { useless ->
            useless.addLines("""{"messages":[{"role":"user","content":"an answer is missing"}]}""" + "\n")
            refused(Status.ERROR_NOTHING_TO_LEARN) { Tuner.sft(model, useless) } as AttuneException.Ended
        }
        val error = refused(Status.ERROR_BUDGET) { Tuner.sft(model, examples) { budgetBytes = 1000 } }
        assertTrue(error.neededBytes > 1000)
        refused(Status.ERROR_OPTION) { Tuner.sft(model, examples) { learningRate = -1f } }
        refused(Status.ERROR_OPTION) { Tuner.sft(model, examples) { rank = -1 } }
        refused(Status.ERROR_DATA) { Examples().use { it.addLines("no json\n") } }
        Tuner.sft(model, examples) { small() }.use { tuner -> refused(Status.ERROR_CHECKPOINT) { tuner.resume(file("missing")) } }
        val tuner = Tuner.sft(model, examples) { small() }
        tuner.close()
        refused(Status.ERROR_HANDLE) { tuner.progress }
        refused(Status.ERROR_HANDLE) { tuner.run() }
    }
}
