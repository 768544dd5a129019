"""Rewriting without a cluster: the real cascade, prompter and verifier, and a policy that answers at once."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

import drsft
from drsft.errors import ConfigError, InputError
from drsft.policy.fake import FakePolicy, text_completion
from drsft.records import Completion

TARGET = drsft.Target(
    model="embedded",
    max_model_len=512,
    prompts=drsft.Prompts(plain="{question}", guided=drsft.Prompts().guided),
)
ROWS = [
    {
        "problem": f"What is {n} plus {n}?",
        "solution": f"The answer is \\boxed{{{2 * n}}}.",
        "answer": str(2 * n),
    }
    for n in (3, 4, 5)
]


def _answers(text: str) -> FakePolicy:
    def answer(prompt_ids: Sequence[int], seed: int) -> Completion:
        return text_completion(text)

    return FakePolicy(answer)


def _rewriter(text: str, **changes: Any) -> drsft.Rewriter:
    return drsft.Rewriter(TARGET, policy=_answers(text), **changes)


def test_records_come_in_the_order_of_the_problems_with_their_sources() -> None:
    seen: list[str] = []
    with _rewriter("That makes \\boxed{8}.") as rewriter:
        records = rewriter.rewrite(ROWS, on_record=lambda record: seen.append(record.problem.reference))
    assert [record.problem.reference for record in records] == ["6", "8", "10"]
    assert [record.source for record in records] == [
        drsft.Source.EXPERT,
        drsft.Source.OWN,
        drsft.Source.EXPERT,
    ]
    assert sorted(seen) == ["10", "6", "8"]
    assert records[1].text == "That makes \\boxed{8}."


def test_problems_and_rows_may_be_mixed_and_given_again() -> None:
    with _rewriter("That makes \\boxed{8}.") as rewriter:
        [first] = rewriter.rewrite(ROWS[1:2])
        again = rewriter.rewrite([first.problem, ROWS[1]])
    assert again == [first, first]


def test_it_works_where_an_event_loop_runs_as_in_a_notebook() -> None:
    async def cell() -> list[drsft.Record]:
        with _rewriter("That makes \\boxed{8}.") as rewriter:
            return rewriter.rewrite(ROWS)

    assert len(asyncio.run(cell())) == 3


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"problem": "What?", "answer": "7"},
            r"^problems\[1\] cannot be used: no demonstration: .*set columns.demonstration",
        ),
        (
            {**ROWS[0], "problem": "so many " * 600},
            r"^problems\[1\]: the problem and its solution have \d+ tokens, more than max_model_len \(512\)",
        ),
    ],
)
def test_a_row_without_a_problem_is_refused_before_anything_is_sampled(
    row: dict[str, str], message: str
) -> None:
    policy = _answers("never asked")
    with drsft.Rewriter(TARGET, policy=policy) as rewriter, pytest.raises(InputError, match=message):
        rewriter.rewrite([ROWS[0], row])
    assert policy.num_requests == 0


def test_wrong_settings_are_refused_in_a_line_that_names_the_key() -> None:
    with pytest.raises(ConfigError, match=r"^recipe: fallbck: unknown key; did you mean 'fallback'"):
        _rewriter("", recipe={"fallbck": "drop"})
    with pytest.raises(ConfigError, match=r"^columns: "):
        _rewriter("", columns={"question": 3})


def test_the_recipe_is_that_of_a_configuration() -> None:
    with _rewriter("I do not know.", recipe={"fallback": "drop", "guided": {"num_samples": 0}}) as rewriter:
        records = rewriter.rewrite(ROWS)
    assert {record.source for record in records} == {drsft.Source.DROPPED}
    assert {attempt.verdict.outcome for record in records for attempt in record.attempts} == {
        drsft.Outcome.NO_ANSWER
    }


def test_a_failure_of_the_policy_comes_out_as_it_is() -> None:
    def fails(prompt_ids: Sequence[int], seed: int) -> Completion:
        raise InputError("the engine says no")

    with (
        drsft.Rewriter(TARGET, policy=FakePolicy(fails)) as rewriter,
        pytest.raises(InputError, match="says no"),
    ):
        rewriter.rewrite(ROWS)
