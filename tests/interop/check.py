"""Attune against transformers, PEFT and llama.cpp. See run.sh.

Status 0 where all held, 1 where one did not.
"""

import argparse
import pathlib
import sys
import tempfile

import check_adapters
import check_quantised
import check_tokenizers
from programs import Command
from report import Report, known_bad

CHECKS = {"adapters": check_adapters.run, "quantised": check_quantised.run, "tokenizers": check_tokenizers.run}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attune", help="the command; without it only the other programs are compared")
    parser.add_argument("--oracle", help="attune-candle's example `logprobs`")
    parser.add_argument("--only", choices=CHECKS, action="append", help="these checks alone")
    parser.add_argument("--keep", help="a folder for the files that are made, kept afterwards")
    parser.add_argument("--shared", default=pathlib.Path(__file__).parents[2].parent / "shared", help="published vocabularies, if any")
    options = parser.parse_args()

    report = Report()
    known_bad(report)
    attune = Command(options.attune, ["logprobs", "--json"]) if options.attune else None
    oracle = Command(options.oracle, []) if options.oracle else None
    if attune is None:
        report.skip("Attune itself: no --attune")
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(options.keep or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for name in options.only or CHECKS:
            CHECKS[name](report, folder, attune, oracle, pathlib.Path(options.shared))
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
