"""A problem's spans tell the cascade as its record does; off unless asked for, sent to a real collector."""

import asyncio
import json
import random
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from drsft.config import Problems, Prompts, Rewrite, Traces
from drsft.intake.planning import plan_problems
from drsft.policy.fake import FakePolicy, text_completion
from drsft.policy.prompts import load_prompter
from drsft.process.tracing import span, trace_to
from drsft.records import Completion, Outcome, Problem, Record, Verdict
from drsft.rewrite.cascade import Recipe
from drsft.rewrite.events import NoEvents
from drsft.rewrite.shard import ShardRewriter
from drsft.run.layout import PROBLEMS
from drsft.stages.trace_export import export_traces
from drsft.storage import LocalStore

NUM_PROBLEMS = 12


class LastWordVerifier:
    async def judge(self, problem: Problem, text: str, *, is_truncated: bool = False) -> Verdict:
        is_right = text.split()[-1] == problem.reference
        return Verdict(outcome=Outcome.CORRECT if is_right else Outcome.WRONG, reason="last word")


def answer(prompt_ids: Sequence[int], seed: int) -> Completion:
    return text_completion(f"I think {random.Random(seed).randrange(6)}")


class Records(NoEvents):
    def __init__(self, records: list[Record]) -> None:
        self._records = records

    def record_made(self, record: Record) -> None:
        self._records.append(record)


def rewritten(folder: Path) -> list[Record]:
    """The records of two shards that were rewritten side by side, all problems at once."""
    rows = [
        {"problem": f"{n}?", "solution": f"It is {n % 5}", "answer": str(n % 5)} for n in range(NUM_PROBLEMS)
    ]
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    store, records = LocalStore(folder), list[Record]()
    prompter = load_prompter("embedded", Prompts(plain="{question}", guided="{question}\n{demonstration}"))
    problems = Problems(path=str(folder / "problems.jsonl"), shard_size=NUM_PROBLEMS // 2)
    plan = plan_problems(problems, store, PROBLEMS, prompter=prompter, max_model_len=256)
    stage = {"num_samples": 4, "wave_size": 2, "max_tokens": 64}
    rewrite = Rewrite.model_validate({"self_align": stage, "guided": stage, "grounding": None})
    recipe = Recipe(rewrite=rewrite, prompter=prompter, run_seed=3, max_model_len=256)

    async def main() -> None:
        rewriter = ShardRewriter(
            store, recipe, FakePolicy(answer), LastWordVerifier(), events=Records(records)
        )
        await asyncio.gather(*map(rewriter.rewrite, plan.shards))

    asyncio.run(main())
    return records


@pytest.fixture
def recorded() -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace_to(provider.get_tracer("test"))
    yield exporter
    trace_to(None)


def attributes(one: ReadableSpan) -> dict[str, object]:
    return dict(one.attributes or {})


def test_each_problem_is_one_trace_that_tells_what_its_record_tells(
    recorded: InMemorySpanExporter, tmp_path: Path
) -> None:
    records = rewritten(tmp_path)
    spans = recorded.get_finished_spans()
    names = {one.context.span_id: one.name for one in spans}
    roots = {str(attributes(one)["problem"]): one for one in spans if one.parent is None}
    assert {one.name for one in roots.values()} == {"problem"}
    assert {attributes(one)["shard"] for one in roots.values()} == {"00000", "00001"}
    assert len({record.source for record in records}) > 1, "the cascade must have gone further for some"
    for record in records:
        root = roots[record.problem.problem_id]
        assert attributes(root)["source"] == record.source.value
        inner = [one for one in spans if one.context.trace_id == root.context.trace_id and one is not root]
        assert {attributes(one)["problem"] for one in inner} == {record.problem.problem_id}
        assert all(root.start_time <= one.start_time <= one.end_time <= root.end_time for one in inner)
        told = Counter(
            (names[one.parent.span_id], attributes(one)["sample"], attributes(one)["outcome"])
            for one in inner
            if one.parent is not None and one.name == "verify" and "outcome" in attributes(one)
        )
        assert told == Counter(
            (one.rollout.phase, one.rollout.sample_index, one.verdict.outcome.value)
            for one in record.attempts
        )
        tokens = [attributes(one)["tokens"] for one in inner if one.name == "sample"]
        assert sum(map(int, map(str, tokens))) == record.num_sampled_tokens


def test_records_are_the_same_with_and_without(recorded: InMemorySpanExporter, tmp_path: Path) -> None:
    (tmp_path / "on").mkdir()
    (tmp_path / "off").mkdir()
    traced = rewritten(tmp_path / "on")
    trace_to(None)
    recorded.clear()
    assert sorted(rewritten(tmp_path / "off"), key=_id) == sorted(traced, key=_id)
    assert recorded.get_finished_spans() == ()


def _id(record: Record) -> str:
    return record.problem.problem_id


@contextmanager
def collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """Takes what is posted to /v1/traces."""
    taken: list[ExportTraceServiceRequest] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/traces":
                taken.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", taken
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(("share", "fewest", "most"), [(1.0, 200, 200), (0.25, 20, 85)])
def test_a_collector_gets_the_traces_of_a_share_of_the_problems(share: float, fewest: int, most: int) -> None:
    """Of 200 problems; 20 to 85 lies five standard deviations around 50."""
    with collector() as (endpoint, taken):
        send = export_traces(Traces(endpoint=f"{endpoint}/", share=share), run="r-1", stage="rewrite")
        try:
            for _ in range(200):
                with span("problem"), span("sample"):
                    pass
            assert send()
        finally:
            trace_to(None)
    batches = [resource for request in taken for resource in request.resource_spans]
    labels = {attribute.key: attribute.value.string_value for attribute in batches[0].resource.attributes}
    assert (labels["service.name"], labels["drsft.run"], labels["drsft.stage"]) == ("drsft", "r-1", "rewrite")
    names = Counter(one.name for batch in batches for part in batch.scope_spans for one in part.spans)
    assert fewest <= names["problem"] <= most
    assert names["sample"] == names["problem"], "a problem is traced whole or not at all"
