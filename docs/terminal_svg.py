#!/usr/bin/env python3
"""Draws text from a terminal as an SVG picture, for the README:

    cargo run --release -p attune-cli -- demo | python3 docs/terminal_svg.py "attune demo" > docs/demo.svg

Reads standard input, writes standard output. Colours (the 16 of ANSI) and bold are kept, other escapes dropped; a line that was written over
with carriage returns shows what was written last. Wide characters take two columns.
"""

import re
import sys
import unicodedata
from html import escape

COLOURS = ["#5c6370", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#dcdfe4"]
PAPER, INK, BAR = "#1e2127", "#dcdfe4", "#2c313a"
WIDTH, HEIGHT, SIZE, PAD = 8.4, 19, 14, 16
ESCAPE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])")


def columns(text):
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def runs(line):
    """The line's pieces, each with its style."""
    style, at, found = {}, 0, []
    for match in list(ESCAPE.finditer(line)) + [None]:
        text = line[at : match.start() if match else len(line)]
        if text:
            found.append((text, dict(style)))
        if match and match[2] == "m":
            for code in (int(n or 0) for n in match[1].split(";")):
                if code == 0:
                    style = {}
                elif code == 1:
                    style["bold"] = True
                elif code == 2:
                    style["colour"] = COLOURS[0]
                elif 30 <= code <= 37 or 90 <= code <= 97:
                    style["colour"] = COLOURS[code % 10]
        at = match.end() if match else at
    return found


def pieces(text):
    """Splits at spaces and where wide characters begin or end, so that each piece starts at its own column whatever font draws it."""
    return re.findall(r" +|[!-~]+|[^ -~]+", text)


def main():
    title = sys.argv[1] if len(sys.argv) > 1 else ""
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1].rstrip() for line in sys.stdin.read().expandtabs().rstrip().split("\n")]
    widest = max([60] + [columns(ESCAPE.sub("", line)) for line in lines])
    width, top = widest * WIDTH + 2 * PAD, 34 + PAD
    height = top + len(lines) * HEIGHT + PAD - 6
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="100%" height="100%" rx="8" fill="{PAPER}"/><path d="M0 34V8a8 8 0 0 1 8-8h{width - 16:.0f}a8 8 0 0 1 8 8v26z" fill="{BAR}"/>',
        f'<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono, monospace" font-size="{SIZE}" fill="{INK}">',
        f'<text x="{width / 2:.0f}" y="22" text-anchor="middle" opacity=".7">{escape(title)}</text>',
    ]
    for row, line in enumerate(lines):
        column, y = 0, top + row * HEIGHT + 10
        for text, style in runs(line):
            attributes = f' fill="{style["colour"]}"' if "colour" in style else ""
            attributes += ' font-weight="bold"' if "bold" in style else ""
            for piece in pieces(text):
                if piece.strip():
                    fit = f' textLength="{columns(piece) * WIDTH:.1f}" lengthAdjust="spacingAndGlyphs"'
                    out.append(f'<text x="{PAD + column * WIDTH:.1f}" y="{y}"{attributes}{fit}>{escape(piece)}</text>')
                column += columns(piece)
    print("\n".join(out + ["</g></svg>"]))


if __name__ == "__main__":
    main()
