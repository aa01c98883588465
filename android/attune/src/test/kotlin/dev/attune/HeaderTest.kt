package dev.attune

import dev.attune.internal.Native
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Test
import java.io.File
import java.lang.reflect.Modifier

/** The C header and these classes agree: on status codes, on constants, on the fields of options and results, on defaults. */
class HeaderTest {
    private val header = File(root, "ffi/include/attune.h").readText()
    private val constants: Map<String, Int> =
        Regex("""^#define ATTUNE_(\w+) (\d+)$""", RegexOption.MULTILINE).findAll(header).associate { it.groupValues[1] to it.groupValues[2].toInt() }

    /** The numbers of a struct, in order: names as Kotlin has them. */
    private fun fields(struct: String): List<String> {
        val body = Regex("""typedef struct $struct \{(.*?)\} $struct;""", RegexOption.DOT_MATCHES_ALL).find(header)?.groupValues?.get(1)
        checkNotNull(body) { "$struct is not in the header" }
        return Regex("""^ {4}(?:uint32_t|uint64_t|int32_t|float|double) (\w+);$""", RegexOption.MULTILINE).findAll(body)
            .map { it.groupValues[1] }.filter { it != "size" && it != "reserved" }
            .map { name -> Regex("_([a-z0-9])").replace(name) { it.groupValues[1].uppercase() } }.toList()
    }

    @Test
    fun the_header_is_read() {
        assertTrue(constants.size > 60)
        assertEquals(listOf("milliseconds", "maxSteps", "evaluate"), fields("attune_run_options"))
    }

    @Test
    fun status_codes_are_the_headers() {
        val here = Status::class.java.declaredFields.filter { Modifier.isStatic(it.modifiers) && it.type == Int::class.java }.associate { it.name to it.getInt(null) }
        val there = constants.filterKeys { it == "OK" || it.startsWith("ERROR_") }
        assertEquals(there.toSortedMap(), here.toSortedMap())
        for ((name, code) in here) assertEquals("ATTUNE_$name", Native.statusName(code).decodeToString())
    }

    @Test
    fun every_group_of_codes_has_its_exception() {
        for ((name, code) in constants.filterKeys { it.startsWith("ERROR_") }) {
            val expected = when (code / 100) {
                1 -> AttuneException.Misuse::class
                2 -> AttuneException.Resource::class
                3 -> AttuneException.Content::class
                4 -> AttuneException.Ended::class
                else -> AttuneException.Defect::class
            }
            assertEquals(name, expected, AttuneException.of(code, name)::class)
        }
        assertEquals("an unknown code of a known group", AttuneException.Content::class, AttuneException.of(399, "")::class)
    }

    @Test
    fun constants_are_the_headers() {
        fun agree(prefix: String, entries: List<Pair<String, Int>>, but: Set<String> = emptySet()) {
            val there = constants.filterKeys { it.startsWith(prefix) && it !in but }.mapKeys { it.key.removePrefix(prefix) }
            assertEquals(prefix, there.toSortedMap(), entries.toMap().toSortedMap())
        }
        fun <E> codes(entries: List<E>) where E : Enum<E>, E : Coded = entries.map { it.name to it.code }
        agree("LOG_", codes(LogLevel.entries))
        agree("KV_", codes(KvType.entries))
        agree("PRECISION_", codes(Precision.entries))
        agree("TARGET_", codes(Target.entries))
        agree("FINISH_", codes(FinishReason.entries))
        agree("FORMAT_", codes(Format.entries))
        agree("SCHEDULE_", codes(Schedule.entries))
        agree("OPTIM_", codes(Optim.entries))
        agree("MODULE_", codes(Module.entries), setOf("MODULE_ALL"))
        assertEquals(constants["MODULE_ALL"], Module.ALL.sumOf { it.code })
        agree("REFERENCE_", codes(Reference.entries))
        agree("RUN_", codes(RunReason.entries))
        agree("THUMB_", codes(Thumb.entries))
        agree("LEARN_", codes(Learn.entries))
        assertEquals(constants["ABI_VERSION"], Native.ABI_VERSION)
        // Whatever the header adds must come to be here.
        val known = setOf("ABI_VERSION", "MESSAGE_SIZE", "NAME_SIZE", "ALIGNMENT", "OK")
        val prefixes = listOf("ERROR", "LOG", "KV", "PRECISION", "TARGET", "FINISH", "FORMAT", "SCHEDULE", "OPTIM", "MODULE", "REFERENCE", "RUN", "THUMB", "LEARN")
        assertEquals(emptyList<String>(), constants.keys.filter { it !in known && it.substringBefore('_') !in prefixes })
    }

    /** Options by the name of their struct. */
    private val options = mapOf<String, Pair<() -> Any, (Any) -> LongArray>>(
        "attune_session_options" to ({ SessionOptions() } to { (it as SessionOptions).pack() }),
        "attune_generate_options" to ({ GenerateOptions() } to { (it as GenerateOptions).pack() }),
        "attune_tune_options" to ({ TuneOptions() } to { (it as TuneOptions).pack() }),
        "attune_reinforce_options" to ({ ReinforceOptions() } to { (it as ReinforceOptions).pack() }),
        "attune_run_options" to ({ RunOptions() } to { (it as RunOptions).pack() }),
        "attune_evaluate_options" to ({ EvaluateOptions() } to { (it as EvaluateOptions).pack() }),
        "attune_feedback_options" to ({ FeedbackOptions() } to { (it as FeedbackOptions).pack() }),
        "attune_reward_options" to ({ RewardOptions() } to { (it as RewardOptions).pack() }),
    )

    @Test
    fun every_options_struct_of_the_header_is_here() {
        val there = Regex("""^void (attune_\w+_options)_default\(""", RegexOption.MULTILINE).findAll(header).map { it.groupValues[1] }.toSet()
        assertEquals(there, options.keys)
    }

    @Test
    fun defaults_are_the_librarys() {
        for ((struct, how) in options) {
            val (make, pack) = how
            assertArrayEquals(struct, Native.defaults(struct.encodeToByteArray()), pack(make()))
        }
    }

    @Test
    fun every_field_of_the_header_is_a_property_and_goes_to_its_own_place() {
        for ((struct, how) in options) {
            val (make, pack) = how
            val names = fields(struct)
            val before = pack(make())
            assertEquals(struct, names.size, before.size)
            for ((place, name) in names.withIndex()) {
                val changed = make()
                if (!change(changed, name)) continue
                val after = pack(changed)
                assertEquals("$struct.$name", listOf(place), after.indices.filter { after[it] != before[it] })
            }
        }
    }

    /** Sets a property to something else; false where there is nothing else yet. */
    private fun change(options: Any, name: String): Boolean {
        val getter = options.javaClass.getMethod("get" + name.replaceFirstChar { it.uppercase() })
        val setter = options.javaClass.getMethod("set" + name.replaceFirstChar { it.uppercase() }, getter.returnType)
        val other: Any = when (val value = getter.invoke(options)) {
            null -> 0.25
            is Int -> value + 3
            is Long -> value + 3
            is Float -> value + 0.5f
            is Double -> value + 0.5
            is Boolean -> !value
            is Set<*> -> setOf(Module.Q)
            is Enum<*> -> value.javaClass.enumConstants.last().also { if (it == value) return false }
            else -> error("$name: $value")
        }
        setter.invoke(options, other)
        return true
    }

    @Test
    fun results_have_the_fields_of_the_header() {
        fun agree(struct: String, type: Class<*>, but: List<String> = emptyList()) {
            val there = fields(struct) - but.toSet()
            val here = type.declaredFields.map { it.name }.filter { it != "Companion" }
            assertTrue("$struct: ${there - here.toSet()}", here.containsAll(there))
        }
        agree("attune_model_info", ModelInfo::class.java)
        agree("attune_adapter_info", AdapterInfo::class.java)
        agree("attune_progress", Progress::class.java)
        agree("attune_run", Run::class.java)
        agree("attune_evaluation", Evaluation::class.java)
        agree("attune_generation", Answer::class.java, listOf("textLength"))
        agree("attune_plan_totals", Plan::class.java)
        // Order: each reads as many numbers as there are, in the header's order, which is that of its constructor.
        assertEquals(fields("attune_progress"), Progress::class.java.declaredFields.map { it.name }.filter { it != "Companion" })
        assertEquals(fields("attune_model_info"), ModelInfo::class.java.declaredFields.map { it.name })
        assertEquals(fields("attune_adapter_info"), AdapterInfo::class.java.declaredFields.map { it.name })
        assertEquals(fields("attune_evaluation"), Evaluation::class.java.declaredFields.map { it.name })
    }

    @Test
    fun the_comparison_can_fail() {
        val changed = TuneOptions().apply { rank = 9 }.pack()
        assertFalse(changed.contentEquals(Native.defaults("attune_tune_options".encodeToByteArray())))
    }

    @Test
    fun every_function_that_an_app_needs_has_a_native_method() {
        val functions = Regex("""^(?:attune_status|void|uint32_t|const char \*)\s?(attune_\w+)\(""", RegexOption.MULTILINE).findAll(header).map { it.groupValues[1] }.toSet()
        assertTrue(functions.size > 90)
        val source = File(root, "android/jni/src").walk().filter { it.extension == "rs" }.joinToString { it.readText() }
        // Memory of the caller's is for languages that have addresses; a cancellation that is taken back would be used again, and each call has its own.
        val without = setOf("attune_session_new_in", "attune_tuner_new_in", "attune_cancel_take_back")
        assertEquals(without, functions.filter { !Regex("\\b$it\\b").containsMatchIn(source) }.toSet())
    }
}
