"""Hub data sets: JSON and CSV are fetched by `datasets` and read here, so that text stays text."""

import json
from pathlib import Path

import pytest

from drsft.config import Problems
from drsft.errors import InputError
from drsft.intake.hub import hub_files, hub_rows
from drsft.intake.rows import Row, read_rows

pytest.importorskip("datasets")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", str(tmp_path / "cache/downloads"))


def read(path: Path, split: str = "train") -> list[dict[str, object]]:
    """Through the library's own look at a folder, which is the one that it takes at a hub repository."""
    files = hub_files(Problems(path=str(path), split=split))
    assert files is not None
    return [
        row.fields for file in files for row in read_rows(Problems(path=str(file))) if isinstance(row, Row)
    ]


@pytest.mark.usefixtures("cache")
def test_text_of_json_and_csv_stays_text(tmp_path: Path) -> None:
    for name, content in {
        "json/train.jsonl": "".join(json.dumps({"answer": value}) + "\n" for value in ("007", "1.50", 12)),
        "json/test.jsonl": json.dumps({"answer": "1"}),
        "csv/train.csv": "id,answer\na,007\nb,1.50\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert [row["answer"] for row in read(tmp_path / "json")] == ["007", "1.50", 12]
    assert [row["answer"] for row in read(tmp_path / "json", "test")] == ["1"]
    assert [row["answer"] for row in read(tmp_path / "csv")] == ["007", "1.50"]
    with pytest.raises(InputError, match=r"not 'dev'; set problems\.split"):
        read(tmp_path / "json", "dev")


@pytest.mark.usefixtures("cache")
def test_other_kinds_are_the_librarys(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"answer": ["007"]}), tmp_path / "data/train.parquet")
    problems = Problems(path=str(tmp_path / "data"))
    assert hub_files(problems) is None
    assert [row.fields for row in hub_rows(problems)] == [{"answer": "007"}]
