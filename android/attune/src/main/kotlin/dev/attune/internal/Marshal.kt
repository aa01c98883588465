package dev.attune.internal

import dev.attune.Coded
import dev.attune.Message
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** A list of texts in one array: before each its length in 4 bytes, the lowest first. */
internal fun packed(texts: List<String>): ByteArray {
    val bytes = texts.map { it.encodeToByteArray() }
    val packed = ByteBuffer.allocate(bytes.sumOf { 4 + it.size }).order(ByteOrder.LITTLE_ENDIAN)
    for (text in bytes) packed.putInt(text.size).put(text)
    return packed.array()
}

/** The texts of such an array. */
internal fun unpacked(bytes: ByteArray): List<String> {
    val from = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN)
    return buildList {
        while (from.hasRemaining()) {
            val length = from.getInt()
            add(bytes.decodeToString(from.position(), from.position() + length))
            from.position(from.position() + length)
        }
    }
}

/** Turns of a conversation as such a list: role, content. */
internal fun turns(turns: List<Message>): ByteArray = packed(turns.flatMap { listOf(it.role, it.content) })

internal val File.bytes: ByteArray get() = path.encodeToByteArray()

/** Numbers of a struct, in the header's order. A number that is null has the method's default, which C knows as NaN. */
internal fun longs(vararg numbers: Any?): LongArray = LongArray(numbers.size) {
    when (val number = numbers[it]) {
        null -> Double.NaN.toRawBits()
        is Int -> number.toLong()
        is Long -> number
        is Float -> number.toRawBits().toLong() and 0xffff_ffffL
        is Double -> number.toRawBits()
        is Boolean -> if (number) 1 else 0
        is Coded -> number.code.toLong()
        else -> throw IllegalArgumentException("a number of a struct: $number")
    }
}

/** Reads the numbers of a struct, in the header's order. */
internal class Numbers(private val longs: LongArray) {
    private var at = 0

    fun long(): Long = longs[at++]
    fun int(): Int = long().toInt()
    fun flag(): Boolean = long() != 0L
    fun float(): Float = Float.fromBits(int())
    fun double(): Double = Double.fromBits(long())
}
