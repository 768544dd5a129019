"""Log lines say what they are about, whoever writes them."""

import asyncio
import json
import logging
from collections.abc import Iterator
from io import StringIO

import pytest

from drsft.process.logs import JsonStream, about, log_as_json


@pytest.fixture
def stream() -> Iterator[StringIO]:
    logger = logging.getLogger("drsft")
    before = logger.handlers, logger.level, logger.propagate
    stream = StringIO()
    log_as_json(stream, run="r-1", stage="rewrite")
    yield stream
    logger.handlers, logger.level, logger.propagate = before


def lines(stream: StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


async def test_concurrent_problems_keep_their_own_shard_and_problem(stream: StringIO) -> None:
    def deep_inside(number: int) -> None:
        logging.getLogger("drsft.policy").warning("the endpoint answered %d", number)

    async def problem(shard: str, number: int) -> None:
        with about(problem=f"p{number}"):
            for _ in range(3):
                await asyncio.sleep(0)
                deep_inside(number)

    async def shard(name: str, numbers: range) -> None:
        with about(shard=name):
            await asyncio.gather(*(problem(name, number) for number in numbers))

    await asyncio.gather(shard("00000", range(0, 5)), shard("00001", range(5, 10)))
    found = lines(stream)
    assert len(found) == 30
    for line in found:
        number = int(str(line["problem"])[1:])
        assert line["message"] == f"the endpoint answered {number}"
        assert (line["run"], line["stage"]) == ("r-1", "rewrite")
        assert line["shard"] == ("00000" if number < 5 else "00001")
        assert line["level"] == "warning"


def test_a_line_stays_one_line(stream: StringIO) -> None:
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        logging.getLogger("drsft.x").exception('two\nlines and a "quote"', extra={"fields": {"seconds": 1.5}})
    [line] = lines(stream)
    assert line["message"] == 'two\nlines and a "quote"'
    assert line["seconds"] == 1.5
    assert "ZeroDivisionError" in str(line["error"])
    assert "shard" not in line


def test_what_people_read_becomes_one_object_a_line() -> None:
    inner = StringIO()
    stream = JsonStream(inner, level=logging.ERROR)
    for part in ("rewrite  4", "/48\n\ntrain", " 1/9\n", "half a line"):
        stream.write(part)
    assert [line["message"] for line in lines(inner)] == ["rewrite  4/48", "train 1/9"]
    assert {line["level"] for line in lines(inner)} == {"error"}
