"""What holds at every door: what is given is taken, or refused in clear lines; it never crashes."""

import copy
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from drsft.errors import UserError

TALLY: defaultdict[str, Counter[str]] = defaultdict(Counter)  # by door, for the table at the end
MAX_LINE = 8000  # of 1,200 characters, each spelt out at most

# Texts that have broken readers before: controls, halves of surrogate pairs, markup, paths, templates.
HOSTILE = st.sampled_from(
    [
        *(
            "",
            " ",
            "\n",
            "a\nb",
            "\x00",
            "\x1b]0;taken\x07",
            "\u202egnp.exe",
            "\ud800",
            "\U0001f600",
            "é" * 300,
        ),
        *("../../x", "/etc/passwd", "..", "s3://b/../x", "~nobody-here/x", "con" * 2000, "a//b", "./a"),
        *(
            "<script>alert(1)</script>",
            "\"'><img src=x onerror=alert(1)>",
            "{{ 7*7 }}",
            "{question}",
            "{",
            "%s",
        ),
        *("1" * 5000, "1e999", "-0", "NaN", "null", "!!python/name:os.system", "&a [*a]", "[bold]x[/]"),
    ]
)
TEXT = HOSTILE | st.text(max_size=40)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def rarely(share: float) -> settings:
    """For a door that is slow to open: so much of the profile's examples."""
    return settings(max_examples=max(3, int(settings().max_examples * share)))


def knock(door: str, action: Callable[[], Any]) -> Any:
    """What the action gives; or its refusal, which must be clear lines and exit code 2."""
    TALLY[door]["examples"] += 1
    try:
        given = action()
    except (UserError, SystemExit) as refusal:
        code = refusal.exit_code if isinstance(refusal, UserError) else refusal.code
        TALLY[door]["refused" if code == 2 else "crashed"] += 1
        if code != 2:
            raise
        if isinstance(refusal, UserError):
            assert_clear(str(refusal))
        return refusal
    except BaseException:
        TALLY[door]["crashed"] += 1
        raise
    TALLY[door]["taken"] += 1
    return given


def assert_clear(message: str) -> None:
    assert message.strip()
    assert "Traceback" not in message
    for line in message.split("\n"):
        assert line.strip()
        assert len(line) < MAX_LINE
        assert not any(
            ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 or char in "\u2028\u202e" for char in line
        )


@contextmanager
def folder() -> Iterator[Path]:
    """An empty one for one example (pytest's belongs to a whole test)."""
    with tempfile.TemporaryDirectory(prefix="drsft-fuzz-") as name:
        yield Path(name)


@st.composite
def changed(draw: st.DrawFn, tree: Any, *, times: int = 3) -> Any:
    """A tree of JSON values, with some of its branches replaced, added or gone."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, times))):
        node, step = tree, draw(st.integers(0, 4))
        while step and isinstance(node, dict | list) and node:
            key = draw(st.sampled_from(list(node) if isinstance(node, dict) else range(len(node))))
            if step == 1 or not isinstance(node[key], dict | list) or not node[key]:
                _change(draw, node, key)
                break
            node, step = node[key], step - 1
    return tree


def _change(draw: st.DrawFn, node: Any, key: Any) -> None:
    match draw(st.sampled_from(["replace", "remove", "add"])):
        case "replace":
            node[key] = draw(VALUES)
        case "remove":
            del node[key]
        case "add" if isinstance(node, dict):
            node[draw(TEXT)] = draw(VALUES)
        case _:
            node.append(draw(VALUES))


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Cut off, with bytes changed, or something else altogether."""
    match draw(st.sampled_from(["cut", "bytes", "other", "empty"])):
        case "cut":
            return data[: draw(st.integers(0, max(len(data) - 1, 0)))]
        case "bytes":
            changed = bytearray(data)
            for at in draw(st.lists(st.integers(0, max(len(data) - 1, 0)), min_size=1, max_size=8)):
                changed[at : at + 1] = draw(st.binary(min_size=1, max_size=4))
            return bytes(changed)
        case "other":
            return draw(st.binary(max_size=200))
        case _:
            return b""
