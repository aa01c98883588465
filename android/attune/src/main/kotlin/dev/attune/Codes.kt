package dev.attune

/** Something that `attune.h` has a number for. */
public interface Coded {
    /** The number. */
    public val code: Int
}

internal inline fun <reified E> coded(code: Int): E where E : Enum<E>, E : Coded =
    enumValues<E>().firstOrNull { it.code == code }
        ?: throw AttuneException.of(Status.ERROR_INTERNAL, "expected a number of ${E::class.java.simpleName}, found $code")

/** What is logged, from what is most important on. */
public enum class LogLevel(override val code: Int) : Coded { OFF(0), ERROR(1), WARN(2), INFO(3), DEBUG(4) }

/** How a session keeps keys and values: [AUTO] is f16, or smaller where the budget asks for it; 4, 2 and 34/32 bytes a number. */
public enum class KvType(override val code: Int) : Coded { AUTO(0), F32(1), F16(2), Q8_0(3) }

/** Whether inputs of products may be rounded ([FAST]) or nothing is ([F32]). */
public enum class Precision(override val code: Int) : Coded { FAST(0), F32(1) }

/** Where it computes. */
public enum class Target(override val code: Int) : Coded { CPU(0) }

/** How an answer ended: the model ended its turn or a stop string came, `maxTokens` were made, the context is full, or it was asked to. */
public enum class FinishReason(override val code: Int) : Coded { STOP(0), LENGTH(1), CONTEXT(2), CANCELLED(3) }

/** The forms of an adapter: Attune's own file, a folder that PEFT loads, a GGUF file that llama.cpp loads. */
public enum class Format(override val code: Int) : Coded { NATIVE(0), PEFT(1), GGUF(2) }

/** How the learning rate falls: in a straight line, not at all, along half a cosine. */
public enum class Schedule(override val code: Int) : Coded { LINEAR(0), CONSTANT(1), COSINE(2) }

/** The optimiser's state: f32 or 8-bit where the budget asks for it, 8 bytes a parameter, 2 bytes a parameter. */
public enum class Optim(override val code: Int) : Coded { AUTO(0), ADAMW(1), ADAMW_8BIT(2) }

/** Linears that an adapter may be on. */
public enum class Module(override val code: Int) : Coded {
    Q(1), K(2), V(4), O(8), GATE(16), UP(32), DOWN(64);

    public companion object {
        /** All seven. */
        public val ALL: Set<Module> = entries.toSet()

        internal fun of(bits: Int): Set<Module> = entries.filter { bits and it.code != 0 }.toSet()
    }
}

/** What preferences are measured against: the adapter that tuning starts from, or the model without one. */
public enum class Reference(override val code: Int) : Coded { INIT(0), BASE(1) }

/** Why a run came back: all is done, the time is up, as many updates as were asked for, a pause, a cancellation. */
public enum class RunReason(override val code: Int) : Coded { DONE(0), TIME(1), STEPS(2), PAUSED(3), CANCELLED(4) }

/** A verdict on an answer. */
public enum class Thumb(override val code: Int) : Coded { UP(0), DOWN(1), WITHDRAWN(2) }

/** What is learnt of feedback: liked answers and edits, pairs of a better and a worse answer, liked and disliked answers, answers in order. */
public enum class Learn(override val code: Int) : Coded { EXAMPLES(0), PAIRS(1), RATINGS(2), RANKINGS(3) }

/** How preferences are learnt, as TRL calls the methods; some need pairs, `KTO` ratings, `PLACKETT_LUCE` rankings. */
public enum class Preference(internal val method: String) {
    DPO("dpo"), IPO("ipo"), KTO("kto"), ORPO("orpo"), SIMPO("simpo"), CPO("cpo"), PLACKETT_LUCE("plackett_luce")
}
