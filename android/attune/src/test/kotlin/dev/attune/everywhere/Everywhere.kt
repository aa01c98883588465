package dev.attune.everywhere

import dev.attune.Attune
import dev.attune.Examples
import dev.attune.Message
import dev.attune.Model
import dev.attune.Precision
import dev.attune.RunReason
import dev.attune.Tuner
import kotlinx.coroutines.runBlocking
import java.io.File

private val SOUNDS = listOf("cow" to "moo", "dog" to "woof", "cat" to "meow", "duck" to "quack", "pig" to "oink")

/**
 * Opens, tunes, saves, reopens, answers, prefers, with nothing rounded: what it prints and the adapters that it writes are the same on every processor, which
 * android/arm64.sh checks: everywhere FOLDER
 */
fun main(arguments: Array<String>) = runBlocking {
    val folder = File(arguments[0]).apply { mkdirs() }
    println("attune ${Attune.version}")
    Model.builtIn().use { model ->
        val file = File(folder, "adapter.attune")
        Examples().use { examples ->
            for ((animal, sound) in SOUNDS) examples.add("What does a $animal say?", "A $animal says $sound.")
            Tuner.sft(model, examples) { learn(6) }.use { tuner ->
                check(tuner.run().reason == RunReason.DONE)
                println("supervised: ${tuner.progress.step} updates of ${tuner.progress.totalSteps}")
                tuner.adapter().use { it.save(file) }
            }
        }
        answer(model, file)
        Examples().use { pairs ->
            for ((animal, sound) in SOUNDS) pairs.addPair(listOf(Message.user("What does a $animal say?")), sound, "A $animal says $sound.")
            model.adapter(file).use { start ->
                Tuner.prefer(model, pairs, start = start) { learn(3) }.use { tuner ->
                    check(tuner.run().reason == RunReason.DONE)
                    val preferred = File(folder, "preferred.attune")
                    tuner.adapter().use { it.save(preferred) }
                    println("preferences: accuracy ${tuner.progress.preferenceAccuracy}")
                    answer(model, preferred)
                }
            }
        }
        runCatching { model.adapter(File(folder, "nothing.attune")) }.exceptionOrNull().let { println("an error: ${it?.javaClass?.simpleName}") }
    }
}

private fun dev.attune.TuneOptions.learn(updates: Long) {
    rank = 4
    alpha = 8f
    learningRate = 3e-3f
    gradientAccumulation = 4
    steps = updates
    maxLength = 48
    precision = Precision.F32
}

private suspend fun answer(model: Model, adapter: File) {
    val session = model.session {
        maxRank = 4
        context = 96
        precision = Precision.F32
    }
    session.use {
        model.adapter(adapter).use { tuned -> session.addAdapter(tuned) }
        val said = session.chat("What does a horse say?") {
            maxTokens = 12
            temperature = 0f
        }
        println("answer: ${said.text}")
    }
}
