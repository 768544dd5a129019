"""`drsft inspect RUN --grounding`: every scored solution counts once, and the ends are shown in order."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from drsft.policy.fake import text_completion
from drsft.records import (
    Attempt,
    GroundingScores,
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
from drsft.report.grounding import grounding_of
from drsft.report.terminal.grounding import grounding_view

PROBLEM = Problem(problem_id="p", question="How many?", demonstration="2 + 2 = 4", reference="4")


def attempt(answer_logprob: float | None, text: str = "4", *, is_accepted: bool = True) -> Attempt:
    return Attempt(
        rollout=Rollout(
            phase=Phase.GUIDED, sample_index=0, seed=1, prompt_hash="", completion=text_completion(text)
        ),
        verdict=Verdict(outcome=Outcome.CORRECT, reason="equal"),
        rejection=None if is_accepted else Rejection(RejectionKind.UNGROUNDED),
        grounding=GroundingScores(
            answer_logprob=answer_logprob,
            mean_logprob=-1.25,
            expert_mean_logprob=-1.5,
        ),
    )


def record(*attempts: Attempt) -> Record:
    return Record(
        problem=PROBLEM,
        source=Source.EXPERT,
        prompt_ids=(1,),
        completion_ids=(2,),
        text="",
        behaviour_logprobs_T=None,
        attempts=attempts,
    )


def shown(records: list[Record], limit: int) -> str:
    console = Console(width=120, record=True)
    with console.capture() as captured:
        console.print(grounding_view(grounding_of(records, num_examples=limit)))
    return captured.get()


@given(logprobs=st.lists(st.floats(-40, 0), min_size=1, max_size=30))
def test_the_histogram_counts_every_scored_solution(logprobs: list[float]) -> None:
    bars = shown([record(*map(attempt, logprobs))], 0).split("accepted (█)\n")[1].splitlines()
    counts = [int(line.split()[-1]) for line in bars if line.strip() and line.strip()[0] in "+-"]
    assert sum(counts) == len(logprobs)


def test_the_ends_are_shown_in_order_with_their_reasons() -> None:
    attempts = [
        attempt(-0.5, "high"),
        attempt(-7.5, "copied", is_accepted=False),
        attempt(-2.0, "middle"),
        attempt(None, "no statement"),
    ]
    text = shown([record(*attempts), replace(record(attempt(-1.0)), attempts=())], 1)
    assert text.startswith("3 right guided solutions were scored without their guide; 2 lead")
    assert "1 rejected: its answer does not follow from it" in text
    assert text.index("least likely answers") < text.index("-7.50") < text.index("most likely answers")
    assert text.index("most likely answers") < text.rindex("-0.50")
    assert "copied" in text
    assert "high\n" in text
    assert "middle" not in text
    assert "log-prob -1.25 a token, expert's -1.50" in text


def test_a_run_without_scores_says_so() -> None:
    assert "rewrite.grounding is null" in shown([record()], 5)
