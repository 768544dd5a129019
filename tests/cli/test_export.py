"""Exports: what stands in them, what never does, and that the same records give the same file."""

import random
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from drsft.cli.export import export_records
from drsft.config import Prompts, RunConfig
from drsft.errors import InputError
from drsft.records import (
    Attempt,
    Completion,
    FinishReason,
    Outcome,
    Phase,
    Problem,
    Record,
    Rejection,
    RejectionKind,
    Rollout,
    Source,
    Verdict,
)
from drsft.rewrite.export import messages_table, pairs_table
from drsft.run.run import Run
from drsft.run.shards import ShardSet
from drsft.run.tables import records_to_table
from drsft.storage import LocalStore

PROMPTS = Prompts(system="Be brief.", plain="Q: {question}", guided="{question} {demonstration}")
PLAIN = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Q: 1+1?"}]


def attempt(text: str, outcome: Outcome, *, phase: Phase = Phase.SELF_ALIGN, index: int = 0) -> Attempt:
    completion = Completion(
        token_ids=(*map(ord, text), 0),
        text=text,
        behaviour_logprobs_T=(-0.5,) * (len(text) + 1),
        finish_reason=FinishReason.LENGTH if outcome is Outcome.TRUNCATED else FinishReason.STOP,
    )
    rollout = Rollout(phase=phase, sample_index=index, seed=index, prompt_hash="h", completion=completion)
    return Attempt(rollout=rollout, verdict=Verdict(outcome=outcome, reason="test"))


def record(*attempts: Attempt, source: Source = Source.OWN, kept: int = 0, identity: str = "p") -> Record:
    """`kept` is which of the attempts is trained on."""
    completion = attempts[kept].rollout.completion if source is not Source.EXPERT else None
    return Record(
        problem=Problem(problem_id=identity, question="1+1?", demonstration="expert's", reference="2"),
        source=source,
        prompt_ids=(1, 2),
        completion_ids=completion.token_ids if completion else (9, 0),
        text=completion.text if completion else "expert's",
        behaviour_logprobs_T=completion.behaviour_logprobs_T if completion else None,
        attempts=attempts,
        expert_completion_ids=(9, 0),
    )


RIGHT, WRONG = attempt("right", Outcome.CORRECT), attempt("wrong", Outcome.WRONG, index=1)


def test_messages_are_the_plain_prompt_and_the_kept_text_of_every_record() -> None:
    guided = attempt("guided right", Outcome.CORRECT, phase=Phase.GUIDED)
    table, counts = messages_table(
        [record(RIGHT), record(WRONG, guided, source=Source.REWRITTEN, kept=1), record(source=Source.EXPERT)],
        PROMPTS,
    )
    rows = table.to_pylist()
    texts = ["right", "guided right", "expert's"]
    assert [row["messages"] for row in rows] == [
        [*PLAIN, {"role": "assistant", "content": text}] for text in texts
    ]
    assert [row["source"] for row in rows] == ["own", "rewritten", "expert"]
    assert counts == {"own": 1, "rewritten": 1, "expert": 1}


def test_every_kept_solution_is_a_conversation_and_a_dropped_record_is_none() -> None:
    other = attempt("right too", Outcome.CORRECT, index=1)
    several = replace(record(RIGHT, other), further_completions=(other.rollout.completion,))
    dropped = replace(record(WRONG, source=Source.EXPERT), source=Source.DROPPED, text="", completion_ids=())
    table, counts = messages_table([several, dropped], PROMPTS)
    texts = [row["messages"][-1]["content"] for row in table.to_pylist()]
    assert texts == ["right", "right too"]
    assert counts == {"own": 2, "dropped": 1}
    assert pairs_table([dropped], PROMPTS, run_seed=0)[0].num_rows == 0


def test_a_refused_sample_is_not_chosen() -> None:
    refused = replace(RIGHT, rejection=Rejection(RejectionKind.LOOPS))
    assert pairs_table([record(refused, WRONG)], PROMPTS, run_seed=0)[1] == {"without a correct sample": 1}


def test_a_pair_is_the_kept_completion_over_a_wrong_one() -> None:
    table, counts = pairs_table([record(WRONG, RIGHT, kept=1)], PROMPTS, run_seed=0)
    (row,) = table.to_pylist()
    assert row["prompt"] == PLAIN
    assert row["chosen"] == [{"role": "assistant", "content": "right"}]
    assert row["rejected"] == [{"role": "assistant", "content": "wrong"}]
    assert (row["chosen_stage"], row["rejected_stage"]) == ("self_align", "self_align")
    assert counts == {"self_align over self_align": 1}


@pytest.mark.parametrize("outcome", [Outcome.UNJUDGED, Outcome.TRUNCATED, Outcome.NO_ANSWER, Outcome.CORRECT])
def test_only_what_was_found_wrong_is_rejected(outcome: Outcome) -> None:
    table, counts = pairs_table([record(RIGHT, attempt("x", outcome, index=1))], PROMPTS, run_seed=0)
    assert table.num_rows == 0
    assert counts == {"without a wrong sample": 1}


def test_an_experts_text_is_in_no_pair() -> None:
    table, counts = pairs_table([record(WRONG, source=Source.EXPERT)], PROMPTS, run_seed=0)
    assert table.num_rows == 0
    assert counts == {"without a correct sample": 1}


def test_the_same_text_is_never_on_both_sides() -> None:
    twice = attempt(" right\n", Outcome.WRONG, index=1)
    assert pairs_table([record(RIGHT, twice)], PROMPTS, run_seed=0)[0].num_rows == 0


def test_both_sides_come_from_one_prompt_where_they_can() -> None:
    own = [attempt(f"own {i}", Outcome.WRONG, index=i) for i in range(5)]
    right = attempt("right", Outcome.CORRECT, phase=Phase.GUIDED)
    wrong = attempt("guided wrong", Outcome.WRONG, phase=Phase.GUIDED, index=1)
    both = record(*own, right, wrong, source=Source.REWRITTEN, kept=5)
    (row,) = pairs_table([both], PROMPTS, run_seed=3)[0].to_pylist()
    assert (row["chosen_stage"], row["rejected_stage"]) == ("guided", "guided")
    one = record(*own, right, source=Source.REWRITTEN, kept=5)
    (row,) = pairs_table([one], PROMPTS, run_seed=3)[0].to_pylist()
    assert (row["chosen_stage"], row["rejected_stage"]) == ("guided", "self_align")


def test_the_draw_hangs_on_seed_and_problem_alone() -> None:
    wrongs = [attempt(f"wrong {i}", Outcome.WRONG, index=i) for i in range(1, 9)]
    records = [record(RIGHT, *wrongs, identity=f"p{i}") for i in range(20)]

    def drawn(of: list[Record], seed: int) -> dict[str, str]:
        rows = pairs_table(of, PROMPTS, run_seed=seed)[0].to_pylist()
        return {row["problem_id"]: row["rejected"][0]["content"] for row in rows}

    first = drawn(records, 0)
    assert len(set(first.values())) > 3, "not always the same one"
    assert drawn(random.Random(0).sample(records, 20), 0) == first
    assert drawn(records, 1) != first


@pytest.fixture
def finished(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "run")
    shards = ShardSet(store, "rewrite")
    for name in ("00000", "00001"):
        shards.commit(
            name, records_to_table([record(RIGHT, WRONG, identity=f"{name}-{i}") for i in range(3)])
        )
    return store


def config() -> RunConfig:
    return RunConfig.model_validate({"name": "x", "problems": {"path": "p"}, "target": {"model": "m"}})


@pytest.mark.parametrize("kind", ["messages", "pairs"])
def test_every_shard_is_exported_into_one_file_and_again_the_same(
    finished: LocalStore, tmp_path: Path, kind: str
) -> None:
    out = LocalStore(tmp_path / "out")
    exported = export_records(kind, Run(finished, config()), out)  # type: ignore[arg-type]
    first = out.read(f"{kind}.parquet")
    assert exported.url == str(tmp_path / "out" / f"{kind}.parquet")
    ids = pq.read_table(exported.url)["problem_id"].to_pylist()
    assert ids == [f"{shard}-{i}" for shard in ("00000", "00001") for i in range(3)]
    assert exported.num_rows == exported.counts.total() == 6
    export_records(kind, Run(finished, config()), out)  # type: ignore[arg-type]
    assert out.read(f"{kind}.parquet") == first


def test_a_run_without_pairs_gives_an_empty_file_with_the_columns(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    ShardSet(store, "rewrite").commit("00000", records_to_table([record(source=Source.EXPERT)]))
    exported = export_records("pairs", Run(store, config()), store)
    table = pq.read_table(exported.url)
    assert (table.num_rows, table.column_names[:3]) == (0, ["prompt", "chosen", "rejected"])


def test_without_records_there_is_nothing_to_export(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no records yet"):
        export_records("pairs", Run(LocalStore(tmp_path), config()), LocalStore(tmp_path))
