package dev.attune.internal

import dev.attune.Attune
import dev.attune.AttuneException
import dev.attune.Status
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.awaitCancellation
import kotlinx.coroutines.coroutineScope
import kotlinx.coroutines.ensureActive
import kotlinx.coroutines.launch
import kotlinx.coroutines.withContext

/** A request to end that native calls are put under. */
internal class Cancel {
    val address: Long = Native.cancelNew()
    private var freed = false

    @Synchronized
    fun ask() {
        if (!freed) Native.cancelAsk(address)
    }

    @Synchronized
    fun free() {
        if (!freed) Native.cancelFree(address)
        freed = true
    }
}

/**
 * A native handle that stays alive during the calls on it. Closing it asks the calls that are under way to end, and frees it with the last of them; it waits for
 * nothing. Every later use is an error.
 */
internal class Handle(private val what: String, private val address: Long, private val free: (Long) -> Unit) {
    private val lock = Any()
    private val cancels = HashSet<Cancel>()
    private var users = 0
    private var closed = false

    val isClosed: Boolean get() = synchronized(lock) { closed }

    /** Runs [block] on the address, which lives until it returns. */
    inline fun <T> use(cancel: Cancel? = null, block: (Long) -> T): T {
        val address = enter(cancel)
        try {
            return block(address)
        } finally {
            leave(cancel)
        }
    }

    /** Throws where it is closed. */
    fun check(): Unit = use { }

    fun enter(cancel: Cancel?): Long = synchronized(lock) {
        if (closed) throw AttuneException.of(Status.ERROR_HANDLE, "expected $what that is open, found one that has been closed")
        users++
        if (cancel != null) cancels += cancel
        address
    }

    fun leave(cancel: Cancel?) {
        val last = synchronized(lock) {
            users--
            if (cancel != null) cancels -= cancel
            closed && users == 0
        }
        if (last) free(address)
    }

    fun close() {
        val last = synchronized(lock) {
            if (closed) return
            closed = true
            cancels.toList().forEach { it.ask() }
            users == 0
        }
        if (last) free(address)
    }
}

/** Runs a native call that cannot be cancelled where blocking is allowed. */
internal suspend fun <T> blocking(block: () -> T): T = withContext(Attune.dispatcher) { block() }

/** The same for calls that make something: where the coroutine is cancelled meanwhile, it is closed again. */
internal suspend fun <T : AutoCloseable> making(block: () -> T): T {
    var made: T? = null
    try {
        return withContext(Attune.dispatcher) { block().also { made = it } }
    } catch (thrown: Throwable) {
        made?.close()
        throw thrown
    }
}

/** Runs a native call on a handle; where the coroutine is cancelled, or the handle closed, the call is asked to end, and waited for. */
internal suspend fun <T> Handle.cancellable(block: (address: Long, cancel: Long) -> T): T = cancellable { cancel ->
    use(cancel) { block(it, cancel.address) }
}

/** The same for a call on anything. */
internal suspend fun <T> cancellable(block: (Cancel) -> T): T {
    val cancel = Cancel()
    try {
        return coroutineScope {
            // Resumed in the thread that cancels, whatever the others are at work on.
            val watcher = launch(Dispatchers.Unconfined, CoroutineStart.UNDISPATCHED) {
                try {
                    awaitCancellation()
                } finally {
                    cancel.ask()
                }
            }
            try {
                withContext(Attune.dispatcher) {
                    try {
                        block(cancel)
                    } catch (thrown: AttuneException) {
                        if (thrown.code == Status.ERROR_CANCELLED) ensureActive()
                        throw thrown
                    }
                }
            } finally {
                watcher.cancel()
            }
        }
    } finally {
        cancel.free()
    }
}
