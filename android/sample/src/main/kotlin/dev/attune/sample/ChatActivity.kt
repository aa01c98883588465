package dev.attune.sample

import android.app.Activity
import android.os.Bundle
import android.view.View
import android.view.ViewGroup.LayoutParams.MATCH_PARENT
import android.view.ViewGroup.LayoutParams.WRAP_CONTENT
import android.widget.Button
import android.widget.EditText
import android.widget.LinearLayout
import android.widget.ScrollView
import android.widget.TextView
import dev.attune.AttuneException
import dev.attune.android.AttuneTuningService
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.MainScope
import kotlinx.coroutines.cancel
import kotlinx.coroutines.launch
import kotlinx.coroutines.sync.Mutex
import kotlinx.coroutines.sync.withLock

/** A chat with thumbs, and a button that learns from the conversation. Its views are made here: plain ones, with nothing to be fetched for them. */
class ChatActivity : Activity() {
    private val scope: CoroutineScope = MainScope()
    private val turn = Mutex()
    private var chat: Chat? = null

    internal lateinit var input: EditText
    internal lateinit var send: Button
    internal lateinit var learn: Button
    internal lateinit var lines: LinearLayout

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        lines = LinearLayout(this).apply { orientation = LinearLayout.VERTICAL }
        input = EditText(this).apply { hint = "Say something" }
        send = button("Send") { send() }
        learn = button("Learn from this conversation") { learn() }
        val row = LinearLayout(this)
        row.addView(input, LinearLayout.LayoutParams(0, WRAP_CONTENT, 1f))
        row.addView(send)
        val page = LinearLayout(this).apply { orientation = LinearLayout.VERTICAL }
        page.addView(ScrollView(this).apply { addView(lines) }, LinearLayout.LayoutParams(MATCH_PARENT, 0, 1f))
        page.addView(row)
        page.addView(learn)
        setContentView(page)
        AttuneTuningService.schedule(this, NightlyTuning::class.java)
    }

    private fun send() {
        val text = input.text.toString().trim()
        if (text.isEmpty()) return
        input.text.clear()
        line("You: $text")
        val answer = line("…")
        work(answer) { chat ->
            chat.say(text).collect { answer.text = it }
            chat.last?.let { thumbs(it) }
        }
    }

    private fun learn() {
        val said = line("Learning…")
        work(said) { chat ->
            val steps = chat.learn { percent -> said.post { said.text = "Learning… $percent %" } }
            said.text = "Learnt in $steps updates."
        }
    }

    /** 👍 and 👎 below an answer; one that is pressed takes both away. */
    private fun thumbs(answer: Long) {
        val row = LinearLayout(this)
        for ((face, liked) in listOf("👍" to true, "👎" to false)) {
            row.addView(button(face) {
                row.visibility = View.GONE
                scope.launch { chat?.rate(answer, liked) }
            })
        }
        lines.addView(row)
    }

    /** One thing at a time, off the main thread where it computes: Attune's functions suspend. */
    private fun work(said: TextView, block: suspend (Chat) -> Unit) {
        scope.launch(Dispatchers.Main) {
            turn.withLock {
                try {
                    block(chat ?: Chat.open(applicationContext).also { chat = it })
                } catch (e: AttuneException) {
                    said.text = e.message
                }
            }
        }
    }

    private fun line(text: String): TextView = TextView(this).also {
        it.text = text
        lines.addView(it)
    }

    private fun button(label: String, onClick: () -> Unit) = Button(this).apply {
        text = label
        setOnClickListener { onClick() }
    }

    override fun onDestroy() {
        scope.cancel()
        chat?.close()
        super.onDestroy()
    }
}
