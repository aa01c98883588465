package dev.attune

import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import java.io.File

class ReadmeTest {
    @Test
    fun what_readme_says_compiles() {
        val readme = File(root, "README.md").readText()
        val section = readme.substringAfter("## From Kotlin").substringBefore("\n## ")
        val said = Regex("```kotlin\n(.*?)```", RegexOption.DOT_MATCHES_ALL).findAll(section).map { it.groupValues[1] }.drop(1).toList()
        val source = File(root, "android/attune/src/test/kotlin/dev/attune/readme/Snippets.kt").readText()
        val compiled = Regex("// README: begin\n(.*?) *// README: end", RegexOption.DOT_MATCHES_ALL).findAll(source).map { it.groupValues[1].trimIndent().trim() }.toList()
        assertEquals(4, compiled.size)
        for (part in compiled) assertTrue(part, said.any { part in it.trim() })
        // And nothing in README that is not compiled.
        assertEquals(said.sumOf { block -> block.lines().count { it.isNotBlank() } }, compiled.sumOf { part -> part.lines().count { it.isNotBlank() } })
    }
}
