"""Records that lie in S3 are browsed and exported where they are."""

import io
import uuid
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from drsft.cli.export import export_records
from drsft.cli.inspect import Filters, browse
from drsft.config import RunConfig
from drsft.errors import InputError
from drsft.records import Problem, Record, Source
from drsft.run.run import Run, find_run
from drsft.run.shards import ShardSet
from drsft.run.tables import records_to_table
from drsft.storage import open_store, read_table

pytestmark = pytest.mark.services

RECORD = Record(
    problem=Problem(problem_id="aa1", question="1+1?", demonstration="It is two.", reference="2"),
    source=Source.EXPERT,
    prompt_ids=(1,),
    completion_ids=(5, 0),
    text="It is two.",
    behaviour_logprobs_T=None,
    expert_completion_ids=(5, 0),
)
SUMMARY = {"sources": {"expert": 1}, "samples": {}, "tokens": {}, "verdicts": {}}


def test_a_run_in_s3_is_found_shown_and_exported(object_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in object_store.environment.items():
        monkeypatch.setenv(name, value)
    url = f"{object_store.url}/{uuid.uuid4().hex}"
    store = open_store(url)
    with pytest.raises(InputError, match="no run here"):
        find_run(url)
    store.put("run.json", b"{}")
    table = records_to_table([RECORD], {"vllm_version": "1.2"})
    ShardSet(store, "rewrite").commit("00000", table, SUMMARY)
    console = Console(file=io.StringIO(), width=100)
    browse(find_run(url), Filters(), limit=5, show_attempts=False, console=console)
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert f"{url}  1 of 1 problems rewritten" in shown
    assert "It is two." in shown

    config = RunConfig.model_validate({"name": "x", "problems": {"path": "p"}, "target": {"model": "m"}})
    exported = export_records("messages", Run(find_run(url).store, config), store.within("export"))
    assert exported.url == f"{url}/export/messages.parquet"
    rows = read_table(store, "export/messages.parquet").to_pylist()
    assert rows[0]["messages"][-1] == {"role": "assistant", "content": "It is two."}
    (data,) = store.keys("rewrite/data")
    metadata = pq.read_schema(io.BytesIO(store.read(data))).metadata
    assert metadata[b"drsft.vllm_version"] == b"1.2", "provenance comes through the store"
