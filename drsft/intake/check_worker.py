"""The process that checks rows for its parent: reads rules and chunks of rows from stdin, writes the results.

All are pickles. The process exits when its stdin is closed, so it never outlives its parent.
"""

import os
import pickle
import sys

from drsft.intake.checking import check_rows
from drsft.intake.packed import packed_checks, unpacked_rows

__all__: list[str] = []


def main() -> None:
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(
        os.open(os.devnull, os.O_WRONLY), 1
    )  # libraries may print to stdout, which must not mix with replies
    try:
        rules = pickle.load(sys.stdin.buffer)
        while True:
            checked = check_rows(unpacked_rows(pickle.load(sys.stdin.buffer)), rules)
            pickle.dump(packed_checks(checked), replies, protocol=pickle.HIGHEST_PROTOCOL)
            replies.flush()
    except (EOFError, BrokenPipeError):
        return


if __name__ == "__main__":
    main()
