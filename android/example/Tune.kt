package dev.attune.examples

import dev.attune.Adapter
import dev.attune.Examples
import dev.attune.Model
import dev.attune.Tuner
import kotlinx.coroutines.runBlocking
import java.io.File

private val CAPITALS = listOf(
    "France" to "Paris", "Italy" to "Rome", "Spain" to "Madrid", "Japan" to "Tokyo", "Egypt" to "Cairo",
    "Greece" to "Athens", "Peru" to "Lima", "Cuba" to "Havana", "Norway" to "Oslo", "China" to "Beijing",
)

/** Opens the built-in model, tunes on ten examples, saves, reopens, answers: tune ADAPTER.attune */
fun main(arguments: Array<String>) = runBlocking {
    val file = File(arguments[0])
    Model.builtIn().use { model ->
        Examples().use { examples ->
            for ((land, city) in CAPITALS) examples.add("What is the capital of $land?", "The capital of $land is $city.")
            val tuner = Tuner.sft(model, examples) {
                rank = 16
                alpha = 32f
                learningRate = 3e-3f
                steps = 60
                maxLength = 64
            }
            tuner.use {
                it.run()
                it.adapter().use { adapter -> adapter.save(file) }
            }
        }
        answer(model, null)
        model.adapter(file).use { answer(model, it) }
    }
}

private suspend fun answer(model: Model, adapter: Adapter?) {
    model.session { maxRank = 16 }.use { session ->
        if (adapter != null) session.addAdapter(adapter)
        val flow = session.stream("What is the capital of Portugal?") {
            maxTokens = 40
            temperature = 0f
        }
        flow.collect { print(it) }
        println()
    }
}
