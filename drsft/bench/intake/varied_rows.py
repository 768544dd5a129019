"""Makes a large file of problems from small files, by copying rows with changed numbers."""

import gzip
import json
import random
import re
from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any

from drsft.errors import InputError

__all__ = ["write_varied_rows"]

_TEXTS = ("problem", "solution", "answer")
_NUMBER = re.compile(r"\d+")


def write_varied_rows(path: Path, data: Sequence[Path], num_rows: int) -> None:
    """Writes the rows of all files mixed, over and over: in copy k every whole number is larger by k.

    So the copies differ in problem, solution and reference, as the rows of a large data set do, and caching
    references helps no more than it would there.
    """
    rows = [row for file in data for row in _rows(file)]
    random.Random(0).shuffle(rows)
    with path.open("w", encoding="utf-8") as file:
        for row in islice(_varied(rows), num_rows):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _varied(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for copy in count():
        for row in rows:
            yield row | {name: _larger(str(row[name]), copy) for name in _TEXTS}


def _larger(text: str, by: int) -> str:
    return _NUMBER.sub(lambda match: str(int(match[0]) + by), text) if by else text


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    try:
        with gzip.open(file, "rt") if file.suffix == ".gz" else file.open() as lines:
            for line in lines:
                row = json.loads(line)
                if all(row.get(name) for name in _TEXTS):
                    yield row
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(
            f"--data {file} cannot be read: {error}; give JSON lines of problem, solution and answer"
        ) from error
