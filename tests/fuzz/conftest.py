"""Two profiles: a short one for CI, the same every time, and a long random one (`make fuzz`)."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.fuzz.doors import TALLY

SHORT, LONG = 30, int(os.environ.get("DRSFT_FUZZ_EXAMPLES", "2000"))
CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

settings.register_profile(
    "short", max_examples=SHORT, derandomize=True, deadline=None, database=None, suppress_health_check=CHECKS
)
settings.register_profile("long", max_examples=LONG, deadline=None, suppress_health_check=CHECKS)
settings.load_profile(os.environ.get("DRSFT_FUZZ", "short"))


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
