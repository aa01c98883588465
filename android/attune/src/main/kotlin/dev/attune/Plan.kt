package dev.attune

import dev.attune.internal.Native
import dev.attune.internal.Numbers
import dev.attune.internal.unpacked

/** Every buffer that a session or a tuner takes. */
public data class Plan(
    /** What will be resident above the model file: the sum of the four below. */
    val totalBytes: Long,
    /** Adapters, with gradients and optimiser state where one is tuned. */
    val adapterBytes: Long,
    /** Keys and values. */
    val cacheBytes: Long,
    /** Activations and scratch. */
    val workBytes: Long,
    /** What the library keeps besides: vocabulary, logits, token lists. */
    val hostBytes: Long,
    /** The model file; not part of the total where it is mapped. */
    val weightsBytes: Long,
    /** All of them. */
    val buffers: List<Buffer>,
    /** The same as JSON, and what a budget has turned. */
    val json: String,
) {
    /** One buffer. */
    public data class Buffer(
        /** What it is called. */
        val name: String,
        /** `adapter`, `cache`, `work` or `host`. */
        val region: String,
        /** How its numbers are stored. */
        val elementType: String,
        /** Its extents. */
        val shape: List<Long>,
        /** Bytes. */
        val bytes: Long,
    )

    internal companion object {
        /** Reads a native plan, and frees it. */
        fun take(address: Long): Plan {
            try {
                val totals = Numbers(Native.planTotals(address))
                val buffers = List(totals.int()) { index ->
                    val (name, region, type) = unpacked(Native.planBuffer(address, index))
                    val extents = Native.planExtents(address, index)
                    Buffer(name, region, type, extents.drop(1), extents[0])
                }
                val json = Native.planDescribe(address).decodeToString()
                return totals.run { Plan(long(), long(), long(), long(), long(), long(), buffers, json) }
            } finally {
                Native.planFree(address)
            }
        }
    }
}
