"""The script for the first GPU runs to its end on a CPU at toy size."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tests.gpu.first_contact import CHECKS, Scene, first_contact

pytestmark = pytest.mark.slow


@pytest.mark.timeout(1500)
def test_every_check_ends_and_keeps_its_limit(tmp_path: Path) -> None:
    shown = StringIO()
    found = first_contact(
        Scene(model="embedded", is_toy=True, folder=tmp_path), Console(file=shown, width=140)
    )
    print(shown.getvalue())
    assert {row.check.split()[0] for row in found} == set(CHECKS)
    assert [row for row in found if row.is_kept is False] == []
    assert "no figure is of a GPU" in shown.getvalue() or "on CPU" not in shown.getvalue()
