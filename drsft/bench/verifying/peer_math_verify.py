"""Runs math-verify as its documentation does, in a process of its own.

The bench runs `python -m drsft.bench.verifying.peer_math_verify`. It reads one JSON line [reference,
prediction] after the other, and answers each with a line 1 (accepted) or 0. References and bare answers
without mathematics delimiters get them, as math-verify's README requires.
"""

import json
import logging
import re
import sys

__all__: list[str] = []


DELIMITER = re.compile(r"\$|\\\(|\\\[|boxed")
PROSE = re.compile(r"[A-Za-z]{2,}\s+[A-Za-z]{2,}|\n|[^\x00-\x7f]")


def main() -> None:
    from math_verify import parse, verify

    logging.disable(logging.CRITICAL)
    verify(parse("$1$"), parse("$2$"))  # the first call loads the grammar
    print("ready", flush=True)
    for line in sys.stdin:
        reference, prediction = json.loads(line)
        if not DELIMITER.search(reference):
            reference = f"${reference}$"
        if not DELIMITER.search(prediction) and not PROSE.search(prediction):
            prediction = f"${prediction}$"
        try:
            is_accepted = bool(verify(parse(reference), parse(prediction)))
        except Exception:  # if the peer crashes, that counts as not accepting
            is_accepted = False
        sys.stdout.write("1\n" if is_accepted else "0\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
