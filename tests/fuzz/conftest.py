"""Marks the tests of doors as slow, and ends with a table of them."""

from pathlib import Path

import pytest

from tests.fuzz.doors import TALLY


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.slow)


def pytest_terminal_summary(terminalreporter) -> None:  # type: ignore[no-untyped-def]
    if not TALLY:
        return
    terminalreporter.section("doors")
    columns = ("examples", "taken", "refused", "crashed")
    terminalreporter.write_line(f"{'door':<34}" + "".join(f"{name:>10}" for name in columns))
    for door, counts in sorted(TALLY.items()):
        terminalreporter.write_line(f"{door:<34}" + "".join(f"{counts[name]:>10,}" for name in columns))
    total = [sum(counts[name] for counts in TALLY.values()) for name in columns]
    terminalreporter.write_line(f"{len(TALLY)} doors".ljust(34) + "".join(f"{n:>10,}" for n in total))
