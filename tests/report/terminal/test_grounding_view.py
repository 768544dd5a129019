"""`drsft inspect RUN --grounding`: every scored solution counts once, and the ends are shown in order."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from drsft.records import Record
from drsft.report.grounding import grounding_of
from drsft.report.terminal.grounding import grounding_view
from tests.support.guided import guided_attempt, guided_record


def shown(records: list[Record], limit: int) -> str:
    console = Console(width=120, record=True)
    with console.capture() as captured:
        console.print(grounding_view(grounding_of(records, num_examples=limit)))
    return captured.get()


@given(logprobs=st.lists(st.floats(-40, 0), min_size=1, max_size=30))
def test_the_histogram_counts_every_scored_solution(logprobs: list[float]) -> None:
    bars = shown([guided_record(*map(guided_attempt, logprobs))], 0).split("accepted (█)\n")[1].splitlines()
    counts = [int(line.split()[-1]) for line in bars if line.strip() and line.strip()[0] in "+-"]
    assert sum(counts) == len(logprobs)


def test_the_ends_are_shown_in_order_with_their_reasons() -> None:
    attempts = [
        guided_attempt(-0.5, "high"),
        guided_attempt(-7.5, "copied", is_accepted=False),
        guided_attempt(-2.0, "middle"),
        guided_attempt(None, "no statement"),
    ]
    text = shown([guided_record(*attempts), replace(guided_record(guided_attempt(-1.0)), attempts=())], 1)
    assert text.startswith("3 right guided solutions were scored without their guide; 2 lead")
    assert "1 rejected: its answer does not follow from it" in text
    assert text.index("least likely answers") < text.index("-7.50") < text.index("most likely answers")
    assert text.index("most likely answers") < text.rindex("-0.50")
    assert "copied" in text
    assert "high\n" in text
    assert "middle" not in text
    assert "log-prob -1.25 a token, expert's -1.50" in text


def test_a_run_without_scores_says_so() -> None:
    assert "rewrite.grounding is null" in shown([guided_record()], 5)
