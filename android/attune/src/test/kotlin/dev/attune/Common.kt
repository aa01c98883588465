package dev.attune

import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.runBlocking
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Assert.fail
import java.io.File

/** Fails after two minutes. */
internal fun <T> test(block: suspend CoroutineScope.() -> T): Unit = runBlocking { kotlinx.coroutines.withTimeout(120_000) { block() } }

/** Expects an error of this code, and gives it. */
internal suspend fun refused(code: Int, block: suspend () -> Any?): AttuneException {
    try {
        block()
    } catch (e: AttuneException) {
        assertEquals("${e.codeName}: ${e.message}", code, e.code)
        assertTrue("an error says why", !e.message.isNullOrEmpty())
        return e
    }
    fail("expected an error of code $code, found none")
    throw AssertionError()
}

internal val root = File(System.getProperty("attune.root") ?: "../..")
internal val modelFile = File(root, "builtin/assets/attune-base.gguf")

internal val CAPITALS = listOf("France" to "Paris", "Italy" to "Rome", "Spain" to "Madrid", "Japan" to "Tokyo", "Egypt" to "Cairo")

internal fun capitals(): Examples = Examples().apply {
    for ((land, city) in CAPITALS) add("What is the capital of $land?", "The capital of $land is $city.")
}

/** So small that a test may run it to its end. */
internal fun TuneOptions.small() {
    rank = 4
    steps = 6
    maxLength = 48
    batchSize = 1
    gradientAccumulation = 2
    learningRate = 1e-3f
}

internal fun GenerateOptions.greedy(tokens: Int = 12) {
    maxTokens = tokens
    temperature = 0f
}
