package dev.attune.android

import android.content.Context
import android.os.PowerManager
import android.os.SystemClock

/** How fast a device may work. */
public enum class Pace {
    /** As fast as it can. */
    FULL,

    /** Half of the time. */
    SLOW,

    /** Not at all. */
    STOP,
}

/**
 * What the device's heat allows, from [PowerManager]'s thermal status and headroom: slower from a moderate status or a forecast of 0.85 of the
 * heat at which the device would be throttled severely, not at all from a severe status or a forecast of 1. Devices that say nothing of their heat run at full pace.
 */
public open class ThermalPace(context: Context) {
    private val power: PowerManager? = context.getSystemService(PowerManager::class.java)
    private var headroom = Float.NaN
    private var asked = Long.MIN_VALUE

    /** What is allowed now. Cheap: may be called every second. */
    public open fun now(): Pace = pace(status(), forecast())

    private fun status(): Int = power?.currentThermalStatus ?: 0

    private fun forecast(): Float {
        // Android gives NaN to those who ask more often than once in a second.
        val now = SystemClock.elapsedRealtime()
        if (asked == Long.MIN_VALUE || now - asked >= ASK_EVERY_MILLIS) {
            asked = now
            headroom = power?.getThermalHeadroom(FORECAST_SECONDS) ?: Float.NaN
        }
        return headroom
    }

    public companion object {
        private const val ASK_EVERY_MILLIS = 1500
        private const val FORECAST_SECONDS = 10
        private const val SLOW_FROM = 0.85f
        private const val STOP_FROM = 1f

        /** What a thermal status and a headroom, which may be NaN, allow. */
        public fun pace(status: Int, headroom: Float): Pace = when {
            status >= PowerManager.THERMAL_STATUS_SEVERE || headroom >= STOP_FROM -> Pace.STOP
            status >= PowerManager.THERMAL_STATUS_MODERATE || headroom >= SLOW_FROM -> Pace.SLOW
            else -> Pace.FULL
        }
    }
}
