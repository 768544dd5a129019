"""The pages: lines are wrapped, links lead somewhere, and commands name what there is."""

import re
import shlex
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import typer.main

from drsft.cli import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
GENERATED = {"index.md", "cli.md"}  # make docs
MAX_LINE_CHARS = 120
LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")
LIST_ITEM = re.compile(r"(?:[-*]|\d+\.) ")
COMMAND = re.compile(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*(drsft|make|python -m tests\.)")


def pages() -> list[Path]:
    return [page for page in PAGES if page.name not in GENERATED]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_lines_are_wrapped_outside_tables(page: Path) -> None:
    long = [
        (number, line)
        for number, line in enumerate(page.read_text().splitlines(), start=1)
        if len(line) > MAX_LINE_CHARS and not line.lstrip().startswith("|")
    ]
    assert not long


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_lead_to_pages_and_headings_that_are_there(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        linked = (page.parent / name) if name else page
        assert linked.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in set(_anchors(linked)), f"{page.name}: {link}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_blocks_inside_a_list_are_indented_as_the_site_and_github_both_read_them(page: Path) -> None:
    """Four spaces continue an item or nest a list, eight are code, and a blank line ends such a block.

    The site shows anything else as running text, or nested items among the outer ones.
    """
    lines = page.read_text().splitlines()
    in_list, in_block, wrong = False, False, []
    for before, line in zip(["", *lines], lines, strict=False):
        indent = len(line) - len(line.lstrip())
        is_item, is_outer = bool(LIST_ITEM.match(line.lstrip())), bool(line) and indent == 0
        in_list = (is_item and is_outer) or (in_list and not is_outer)
        begins_block = in_list and not before and indent > 0
        is_misplaced = (begins_block or is_item) and indent not in (0, 4) and indent < 8
        if in_list and (is_misplaced or (is_outer and in_block and before)):
            wrong.append(line)
        in_block = in_list and not is_outer and (in_block or begins_block)
    assert not wrong


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_commands_name_subcommands_options_targets_and_modules_that_are_there(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in _commands(page):
        words = shlex.split(line, comments=True)
        words = words[next(i for i, word in enumerate(words) if "=" not in word) :]
        match words:
            case ["make", target, *_]:
                assert target in targets, line
            case ["python", "-m", module, *_]:
                path = ROOT / module.replace(".", "/")
                assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), line
            case ["drsft", *rest]:
                _check_options(typer.main.get_command(app), rest, line)


def _check_options(command: Any, words: list[str], line: str) -> None:
    while (commands := getattr(command, "commands", None)) and words and not words[0].startswith("-"):
        assert words[0] in commands, f"no command {words[0]!r}: {line}"
        command, words = commands[words[0]], words[1:]
    known = set(chain.from_iterable((*one.opts, *one.secondary_opts) for one in command.params)) | {"--help"}
    for word in words:
        if word in ("|", ">", "2>", "&&", ";", "&", "||"):
            break
        if word.startswith("--"):
            assert word.partition("=")[0] in known, f"no option {word}: {line}"


def _commands(page: Path) -> Iterator[str]:
    """Yields the lines of code blocks that call drsft, make or a module of tests."""
    fenced = False
    for line in page.read_text().splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif (fenced or line.startswith("    ")) and COMMAND.match(line.strip()):
            yield line.strip().removeprefix("$ ").rstrip("\\")


def _anchors(page: Path) -> Iterator[str]:
    """Yields the anchors that GitHub gives to headings."""
    for heading in re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE):
        text = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower())
        yield text.strip().replace(" ", "-")
