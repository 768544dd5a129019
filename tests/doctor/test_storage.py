"""`drsft doctor storage`: a store that breaks one promise is told by the check of that promise."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from drsft.doctor import storage
from drsft.doctor.cli import doctor_app
from drsft.doctor.storage import check_storage
from drsft.errors import StorageError
from drsft.storage import LocalStore


class IgnoresConditions(LocalStore):
    def create(self, key: str, data: bytes) -> bool:
        self.put(key, data)
        return True


class ReadsOldObjects(LocalStore):
    def put(self, key: str, data: bytes) -> None:
        if not self.exists(key):
            super().put(key, data)


class ListsLate(LocalStore):
    def keys(self, prefix: str) -> Iterator[str]:
        yield from list(super().keys(prefix))[:-1]


class KeepsWhatIsDeleted(LocalStore):
    def delete(self, key: str) -> None:
        pass


class ReadOnly(LocalStore):
    def put(self, key: str, data: bytes) -> None:
        raise StorageError("cannot write: status 403; check the credentials")


def _wrong(monkeypatch: pytest.MonkeyPatch, kind: type[LocalStore], root: Path) -> set[str]:
    class Within(kind):  # type: ignore[valid-type, misc]
        def within(self, prefix: str) -> LocalStore:
            return Within(self.root / prefix)

    monkeypatch.setattr(storage, "open_store", lambda url: Within(Path(url)))
    return {check.name for check in check_storage(str(root)) if check.state == "wrong"}


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (LocalStore, set()),
        (IgnoresConditions, {"create only what is not there", "one of 8 writers wins"}),
        (ReadsOldObjects, {"overwritten at once"}),
        (ListsLate, {"listed at once"}),
        (KeepsWhatIsDeleted, {"delete"}),
        (ReadOnly, {"write and read"}),
    ],
)
def test_a_broken_promise_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: type[LocalStore], wrong: set[str]
) -> None:
    assert _wrong(monkeypatch, kind, tmp_path) == wrong
    assert list(tmp_path.iterdir()) == [], "nothing is left"


def test_the_command_says_a_line_for_each_and_ends_with_1_where_something_is_wrong(tmp_path: Path) -> None:
    fit = CliRunner().invoke(doctor_app, ["storage", str(tmp_path / "new")])
    assert fit.exit_code == 0
    assert all(line.startswith(("✓ ", "! ")) for line in fit.stdout.splitlines())
    assert list(tmp_path.iterdir()) == []
    unfit = CliRunner().invoke(doctor_app, ["storage", "/proc/nowhere"])
    assert unfit.exit_code == 1
    [line] = unfit.stdout.splitlines()
    assert line.startswith("✗ write and read: cannot write /proc/nowhere")
