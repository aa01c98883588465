package dev.attune

import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.awaitAll
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import java.io.File

class FeedbackTest {
    @get:Rule
    val folder = TemporaryFolder()
    private val prompt = listOf(Message.user("What does a cow say?"))

    @Test
    fun feedback_is_kept_exported_learnt_from_and_erased() = test {
        val file = File(folder.root, "store")
        Feedback.open(file).use { store ->
            refused(Status.ERROR_NOTHING_TO_LEARN) { store.examples(Learn.PAIRS) }
            val asked = store.addPrompt(prompt, "one")
            val (woof, moo, meow) = listOf("woof", "moo", "meow").map { store.addAnswer(asked, it) }
            store.addThumb(woof, Thumb.DOWN)
            store.addThumb(moo, Thumb.UP)
            store.addEdit(meow, "a cow says moo")
            store.addRank(listOf(moo, meow))
            store.addKept(store.addRegenerated(meow, "mooo"))
            store.flush()
            refused(Status.ERROR_FEEDBACK) { store.addThumb(12345, Thumb.UP) } as AttuneException.Content
            val said = store.describe(Learn.PAIRS)
            assertTrue(said, "\"thumbs\":2" in said && "\"edits\":1" in said)
        }
        Feedback.open(file).use { store ->
            val exported = File(folder.root, "pairs.jsonl")
            val count = store.export(Learn.PAIRS, exported)
            assertTrue(count >= 2)
            Examples.open(exported).use { assertEquals(count, it.count) }
            store.examples(Learn.RATINGS).use { assertTrue(it.count >= 2) }
            assertTrue(store.exportEvents(File(folder.root, "events.jsonl")) >= 8)
            assertTrue(store.eraseConversation("one") >= 8)
            refused(Status.ERROR_NOTHING_TO_LEARN) { store.examples(Learn.PAIRS) }
        }
        assertTrue("an answer is still in the file", "a cow says moo" !in file.readBytes().toString(Charsets.ISO_8859_1))
    }

    @Test
    fun handles_of_one_process_share_a_store_and_wait_for_each_other() = test {
        val file = File(folder.root, "store")
        val first = Feedback.open(file)
        val second = Feedback.open(File(folder.root, "./store"))
        List(16) { index ->
            async(Dispatchers.Default) { (if (index % 2 == 0) first else second).addPrompt(prompt, "c$index") }
        }.awaitAll().let { ids -> assertEquals(16, ids.toSet().size) }
        first.close()
        first.close()
        refused(Status.ERROR_HANDLE) { first.flush() }
        assertTrue(second.eraseAll() >= 16)
        second.close()
        // The file is free again.
        Feedback.open(file) { maxBytes = 8192 }.close()
        refused(Status.ERROR_FEEDBACK) { Feedback.open(file) { maxBytes = 100 } }
    }
}
