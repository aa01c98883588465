"""Renders chat templates with Jinja2 as `transformers` sets it up: what our own engine is compared with.

Reads {"cases": [{"source", "messages", "tools", "add_generation_prompt", "variables"}]} from standard input and writes a list of
{"text", "spans"} or {"error"}. Spans are the character ranges of `{% generation %}` blocks.

    pip install jinja2
    python3 jinja.py < cases.json
"""

import datetime
import json
import sys

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox

NOW = datetime.datetime(2026, 3, 4, 5, 6, 7)
OPEN, CLOSE = "\ue000", "\ue001"


class Generation(jinja2.ext.Extension):
    """`{% generation %} … {% endgeneration %}`: puts marks around the body."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("mark"), [], [], body).set_lineno(line)

    def mark(self, caller):
        return OPEN + caller() + CLOSE


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


def render(env, case):
    try:
        text = env.from_string(case["source"]).render(
            messages=case["messages"],
            tools=case["tools"],
            documents=None,
            add_generation_prompt=case["add_generation_prompt"],
            **case["variables"],
        )
    except Exception as error:
        return {"error": str(error)}
    spans, plain = [], ""
    for character in text:
        if character == OPEN:
            spans.append([len(plain), len(plain)])
        elif character == CLOSE:
            spans[-1][1] = len(plain)
        else:
            plain += character
    return {"text": plain, "spans": spans}


if __name__ == "__main__":
    env = environment()
    json.dump([render(env, case) for case in json.load(sys.stdin)["cases"]], sys.stdout)
