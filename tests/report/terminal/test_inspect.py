"""`drsft inspect`: what is shown, what the filters let pass, and that texts cannot drive the terminal."""

import io
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console, RenderableType

from drsft import cli
from drsft.cli.inspect import Filters, browse
from drsft.config import Prompts
from drsft.errors import InputError
from drsft.gap.scored_texts import Role, Text, scores_of
from drsft.gap.scoring import TokenScores
from drsft.gap.text_scoring import score_table
from drsft.policy.prompts import load_prompter
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
    ThoughtPart,
    Verdict,
)
from drsft.report.terminal.record import record_view
from drsft.report.terminal.run_summary import summary_view
from drsft.run.plan import Plan
from drsft.run.run import Run, find_run
from drsft.run.shards import ShardSet
from drsft.run.summary import ShardSummary
from drsft.run.tables import records_to_table
from drsft.storage import LocalStore


def attempt(
    text: str, outcome: Outcome, reason: str, *, index: int = 0, phase: Phase = Phase.SELF_ALIGN
) -> Attempt:
    completion = Completion(
        token_ids=tuple(range(len(text))),
        text=text,
        behaviour_logprobs_T=(-1.0,) * len(text),
        finish_reason=FinishReason.STOP,
    )
    rollout = Rollout(
        phase=phase, sample_index=index, seed=70 + index, prompt_hash="h", completion=completion
    )
    return Attempt(rollout=rollout, verdict=Verdict(outcome=outcome, reason=reason, answer=text[-1:]))


WRONG = attempt("so it is 3", Outcome.WRONG, "plain numbers")
RIGHT = attempt("that makes 2", Outcome.CORRECT, "identical", index=1)


def record(identity: str, source: Source, *attempts: Attempt, question: str = "1+1?") -> Record:
    kept = attempts[-1].rollout.completion if source is not Source.EXPERT else None
    return Record(
        problem=Problem(problem_id=identity, question=question, demonstration="It is two.", reference="2"),
        source=source,
        prompt_ids=(1,),
        completion_ids=kept.token_ids if kept else (5, 0),
        text=kept.text if kept else "It is two.",
        behaviour_logprobs_T=kept.behaviour_logprobs_T if kept else None,
        attempts=attempts,
        expert_completion_ids=(5, 0),
    )


RECORDS = [
    record("aa1", Source.OWN, WRONG, RIGHT),
    record("aa2", Source.EXPERT, WRONG, attempt("", Outcome.NO_ANSWER, "no answer found", index=1)),
    record("bb1", Source.EXPERT, attempt("hm", Outcome.UNJUDGED, "timeout of 5 s")),
]
SUMMARY = {
    "sources": {"own": 1, "expert": 2},
    "samples": {"self_align": 5},
    "problems": {"self_align": 3},
    "tokens": {"self_align": 1234},
    "verdicts": {
        "self_align/wrong/plain numbers": 2,
        "self_align/correct/identical": 1,
        "self_align/no_answer/no answer found": 1,
        "self_align/unjudged/timeout of 5 s": 1,
    },
    "provenance": {
        "version": "9.9",
        "vllm_version": "1.2",
        "target_model": "m",
        "target_fingerprint": "abcd",
    },
}


def summaries(*stored: dict[str, object]) -> list[ShardSummary]:
    return [ShardSummary.from_json(one) for one in stored]


def shown(view: RenderableType, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(view)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture
def run(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "run")
    store.put("run.json", b"{}")
    plan = Plan(
        path="p",
        num_read=4,
        num_problems=4,
        num_duplicates=0,
        quarantined={},
        shards={"0": 3, "1": 1},
        digest="",
    )
    store.put("problems/plan.json", json.dumps(asdict(plan)).encode())
    ShardSet(store, "rewrite").commit("0", records_to_table(RECORDS), SUMMARY)
    return store


def browsed(
    run: LocalStore,
    limit: int = 10,
    show_attempts: bool = False,
    show_heat: bool = False,
    colours: bool = False,
    **filters: object,
) -> str:
    system = "truecolor" if colours else None
    console = Console(
        file=io.StringIO(), width=100, color_system=system, force_terminal=False, no_color=not colours
    )
    browse(
        Run(run),
        Filters(**filters),  # type: ignore[arg-type]
        limit=limit,
        show_attempts=show_attempts,
        show_heat=show_heat,
        console=console,
    )
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_summary_counts_sources_and_verdicts_and_names_the_engine() -> None:
    text = shown(summary_view("runs/x", summaries(SUMMARY, SUMMARY), num_problems=10))
    assert "6 of 10 problems rewritten" in text
    assert "target m abcd  drsft 9.9  vllm 1.2" in text
    rows = {line.split()[0]: line.split()[1:3] for line in text.splitlines() if line.strip()}
    assert rows["own"] == ["2", "33.3%"]
    assert rows["expert"] == ["4", "66.7%"]
    assert "plain numbers 4" in text
    assert "2,468 tokens" in text
    assert "rewritten  " not in text, "what did not occur has no row"


def test_the_summary_counts_pairs_that_were_done_again() -> None:
    pairs = {"num_pairs": 40, "num_redone": 3, "num_apart": 1}
    text = shown(
        summary_view(
            "run", summaries({**SUMMARY, "pairs": pairs}, {**SUMMARY, "pairs": pairs}), num_problems=6
        )
    )
    text = " ".join(text.split())
    assert "pairs of contexts decoded: 80; done again after falling out of step: 6; decoded apart" in text
    assert "pairs of contexts" not in shown(summary_view("run", summaries(SUMMARY), num_problems=3))


def test_a_later_round_counts_what_it_keeps_and_says_what_it_carried_over() -> None:
    later = SUMMARY | {"kept": {"own": 7, "expert": 1}, "carried": {"problems": 5, "tokens": 90}}
    text = shown(summary_view("runs/x", summaries(later), num_problems=8))
    assert "8 of 8 problems rewritten, 5 of them carried over" in text
    assert "87.5%" in text


def test_shards_of_different_engines_are_told_apart() -> None:
    other = SUMMARY | {"provenance": SUMMARY["provenance"] | {"vllm_version": "1.3"}}  # type: ignore[operator]
    text = shown(summary_view("runs/x", summaries(SUMMARY, SUMMARY, other), num_problems=10))
    assert "vllm 1.2  (2 shards)" in text
    assert "vllm 1.3  (1 shards)" in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_record_shows_expert_and_kept_side_by_side(width: int) -> None:
    lines = shown(record_view(RECORDS[0]), width).splitlines()
    assert max(map(len, lines)) <= width
    assert any("expert" in line and "kept" in line for line in lines)
    assert any("It is two." in line and "that makes 2" in line for line in lines)
    text = "\n".join(lines)
    assert "12 tokens" in text
    assert "self_align sample 1, seed 71" in text
    assert "correct: identical" in text
    assert "1 wrong (plain numbers), 1 correct (identical)" in text


def test_what_speaks_against_a_record_is_shown() -> None:
    refused = replace(
        attempt("the teacher says 2", Outcome.CORRECT, "identical"),
        rejection=Rejection(RejectionKind.MENTIONS_GUIDE),
    )
    shaky = replace(RIGHT, steps=Verdict(outcome=Outcome.WRONG, reason="1+1=3"))
    one = replace(
        record("aa1", Source.REWRITTEN, refused, shaky),
        problem=replace(RECORDS[0].problem, demonstration="It is \\boxed{4}."),
        expert_verdict=Verdict(outcome=Outcome.WRONG, reason="plain numbers", answer="4"),
        further_completions=(RIGHT.rollout.completion,),
    )
    text = shown(record_view(one, show_attempts=True), 120)
    assert "contradicts the reference (it says 4)" in text
    assert "12 tokens and 1 more" in text
    assert text.count("contains a false equation: 1+1=3") == 2
    assert "1 correct (rejected: mentions its guide)" in text
    assert "rejected: mentions its guide" in text
    checks = {"checks": {"steps_read": 8, "steps_failed": 3, "contradicting": 2}, "refusals": {"loops": 5}}
    text = shown(summary_view("runs/x", summaries(SUMMARY | checks), num_problems=9))
    assert "right answers that were rejected: loops 5" in text
    assert "with a false equation: 3 of 8" in text
    assert "contradict the reference: 2" in text


def test_the_share_of_unsound_equations_is_told_where_some_were_read_also_when_it_is_none() -> None:
    for num_read, is_told in ((8, True), (0, False)):
        checks = {"checks": {"steps_read": num_read, "steps_failed": 0, "contradicting": 0}}
        text = shown(summary_view("runs/x", summaries(SUMMARY | checks), num_problems=9))
        assert ("with a false equation: 0 of 8" in text) == is_told


def test_a_dropped_row_says_so() -> None:
    one = replace(record("aa1", Source.EXPERT, WRONG), source=Source.DROPPED, text="", completion_ids=())
    assert "nothing: no sample was accepted" in shown(record_view(one))


def test_an_expert_row_says_that_nothing_passed() -> None:
    assert "as no sample was accepted" in shown(record_view(RECORDS[1]))


def test_attempts_are_listed_when_asked_for() -> None:
    assert "so it is 3" not in shown(record_view(RECORDS[0]))
    text = shown(record_view(RECORDS[0], show_attempts=True))
    assert "so it is 3" in text
    assert "seed 70" in text


def test_a_record_without_attempts_is_shown() -> None:
    assert "no sample was drawn" in shown(record_view(record("x", Source.EXPERT), show_attempts=True))


@pytest.mark.parametrize(
    "attack", ["\x1b]0;owned\x07", "\x1b[2J", "\x9b31m", "[red]x[/red]", "a\u202eb", "\x7f\r"]
)
def test_a_text_cannot_drive_the_terminal(attack: str) -> None:
    evil = attempt(attack, Outcome.CORRECT, attack)
    text = shown(record_view(record(attack, Source.OWN, evil, question=attack), show_attempts=True))
    assert not set("\x1b\x07\x9b\x7f\r\u202e") & set(text)
    if attack.startswith("[red]"):
        assert "[red]x[/red]" in text


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, {"aa1", "aa2", "bb1"}),
        ({"source": Source.EXPERT}, {"aa2", "bb1"}),
        ({"outcome": Outcome.WRONG}, {"aa1", "aa2"}),
        ({"outcome": Outcome.WRONG, "source": Source.OWN}, {"aa1"}),
        ({"reason": "TIMEOUT"}, {"bb1"}),
        ({"reason": "plain", "outcome": Outcome.CORRECT}, set()),
        ({"problem_id": "aa"}, {"aa1", "aa2"}),
    ],
)
def test_filters(run: LocalStore, filters: dict[str, object], expected: set[str]) -> None:
    text = browsed(run, **filters)
    assert {one.problem.problem_id for one in RECORDS if f"{one.problem.problem_id}  " in text} == expected
    assert ("no record matches" in text) == (not expected)


def scored(run: LocalStore) -> tuple[list[int], str]:
    """Commits scores of aa1's texts as the gap stage would; returns their ids and the text of the last."""
    config = {"name": "x", "storage": "s", "problems": {"path": "p"}, "target": {"model": "embedded"}}
    run.put("config.json", json.dumps(config).encode())
    tokenizer = load_prompter("embedded", Prompts()).tokenizer
    ids = tokenizer.encode("12+30=42;")
    texts = [
        Text(row_id="aa1", role=role, source=source, prompt_ids=[1], completion_ids=ids)
        for role, source in ((Role.DEMONSTRATION, "expert"), (Role.KEPT, "own"))
    ]
    phi_T = np.zeros(len(ids))
    kept_T = phi_T.copy()
    kept_T[-1] = -6.25
    scores = [TokenScores(logprobs_T=one - 1.0, entropy_T=np.ones(len(ids))) for one in (phi_T, kept_T)]
    scores_of(run).commit("0", score_table(texts, scores))
    return list(ids), tokenizer.decode([ids[-1]])


def test_the_heat_map_of_a_chosen_row_colours_its_unlikely_tokens(run: LocalStore) -> None:
    ids, last = scored(run)
    text = browsed(run, show_heat=True, problem_id="aa1")
    kept, expert = text.index("kept  own"), text.index("demonstration  expert")
    assert kept < expert
    assert text.count("12+30=42;") == 2
    assert f"kept  own, {len(ids)} tokens, φ̄ {-6.25 / len(ids):+.3f}" in text
    assert f"lowest φ: {last!r} -6.2" in text[kept:expert]
    assert "no token with φ below -1" in text[expert:]
    coloured = browsed(run, show_heat=True, problem_id="aa1", colours=True)
    red = "48;2;192;57;43m"  # the background of the last step
    assert coloured.count(red) == 2, "the legend's and the one token's"
    assert "φ" not in browsed(run, problem_id="aa1")


def test_a_row_that_is_not_scored_says_so_and_a_run_without_scores_is_one_line(run: LocalStore) -> None:
    with pytest.raises(InputError, match="no gap report yet"):
        browsed(run, show_heat=True)
    scored(run)
    ShardSet(run, "rewrite").commit("1", records_to_table([record("cc1", Source.OWN, RIGHT)]), SUMMARY)
    assert "not scored yet" in browsed(run, show_heat=True, problem_id="cc")


def test_the_limit_says_when_there_is_more(run: LocalStore) -> None:
    assert "2 shown, and more match" in browsed(run, limit=2)
    assert "more match" not in browsed(run, limit=3)
    only_summary = browsed(run, limit=0)
    assert "3 of 4 problems rewritten" in " ".join(only_summary.split())
    assert "aa1" not in only_summary


def test_a_place_without_run_and_a_run_without_records_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run here"):
        find_run(str(tmp_path))
    started = LocalStore(tmp_path / "started")
    started.put("run.json", b"{}")
    with pytest.raises(InputError, match="no records yet"):
        browsed(started)
    with pytest.raises(InputError, match="overrides go with a configuration"):
        find_run(started.url, ["seed=1"])


def test_a_configuration_names_its_run(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"name: x\nstorage: {tmp_path}\nproblems: {{path: p}}\ntarget: {{model: m}}\n")
    with pytest.raises(InputError, match=r"there is no run x-[0-9a-f]{16} in"):
        find_run(str(path))


def test_the_command_prints_records_and_one_line_errors(
    run: LocalStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["drsft", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0)

    assert call("inspect", run.url, "--source", "own") == 0
    assert "that makes 2" in capsys.readouterr().out
    assert call("inspect", f"{run.url}/nowhere") == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert call("rewrite", "c.yaml", "--out", "x") == 2
    assert "add --export" in capsys.readouterr().err


def test_the_share_of_thoughts_stands_beside_a_phases_tokens() -> None:
    thinking = {**SUMMARY, "thought_tokens": {"self_align": 617}}
    text = shown(summary_view("runs/x", summaries(thinking), num_problems=3), width=160)
    assert "617 of them thoughts (50.0%)" in text
    assert "thoughts" not in shown(summary_view("runs/x", summaries(SUMMARY), num_problems=3), width=160)


def test_a_thought_stands_dimmed_above_its_answer_and_an_open_one_says_so() -> None:
    thought = ThoughtPart(text="Perhaps [red]3\x1b[31m?", num_tokens=1234)
    one = replace(RECORDS[0], thought=thought)
    text = shown(record_view(one), 120)
    places = [text.index(part) for part in ("thought, 1,234 tokens", "Perhaps [red]3", "that makes 2")]
    assert places == sorted(places)
    assert "\x1b[31m" not in text
    assert "thought" not in shown(record_view(RECORDS[0], show_attempts=True))
    styled = io.StringIO()
    Console(file=styled, width=120, force_terminal=True, color_system="standard").print(record_view(one))
    line = next(line for line in styled.getvalue().splitlines() if "Perhaps" in line)
    assert line.index("\x1b[2m") < line.index("Perhaps")
    rollout = WRONG.rollout
    unclosed = ThoughtPart(text="Hm", num_tokens=2, is_closed=False)
    completion = replace(rollout.completion, text="", thought=unclosed)
    sample = replace(WRONG, rollout=replace(rollout, completion=completion))
    text = shown(record_view(record("cc1", Source.EXPERT, sample), show_attempts=True), 120)
    assert "thought, never closed, 2 tokens" in text
