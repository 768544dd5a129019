"""A table of answers gets exactly its accuracy: through files, prompts, verifiers and tables."""

from pathlib import Path

import pytest

from drsft.errors import SetupError
from drsft.evaluate.results import arm_scores
from drsft.records import FinishReason
from drsft.run.run import Run
from drsft.verify.code.sandbox import check_sandbox
from drsft.verify.options import VerifyOptions
from tests.support.evaluation import (
    FORMATS,
    Format,
    LookupPolicy,
    embedded_prompter,
    evaluate_base,
    run_config,
    said,
    write_rows,
)

# One letter a sample: right, wrong, cut off with the right answer already there, without an answer.
TABLE = ("RRRR", "RWRN", "WWRT", "NNNT", "WWWR")


@pytest.mark.parametrize("format_", FORMATS, ids=lambda one: one.name)
def test_a_table_of_answers_gets_exactly_its_accuracy(tmp_path: Path, format_: Format) -> None:
    if format_.name in ("humaneval", "mbpp"):
        try:
            check_sandbox(VerifyOptions())
        except SetupError as error:
            pytest.skip(str(error))
    path = write_rows(tmp_path / "rows.jsonl", [format_.row(i) for i in range(len(TABLE))])
    config = run_config(
        tmp_path,
        [{"name": format_.name, "problems": {"path": str(path), "shard_size": 2}}],
        num_samples=4,
    )
    prompter = embedded_prompter(config)
    answers = {
        format_.asked(i): [
            {
                "R": said(prompter, format_.right(i)),
                "W": said(prompter, format_.wrong(i)),
                "T": said(prompter, format_.right(i), finish_reason=FinishReason.LENGTH),
                "N": said(prompter, "I cannot tell."),
            }[letter]
            for letter in letters
        ]
        for i, letters in enumerate(TABLE)
    }
    policy = LookupPolicy(prompter, answers)
    store = evaluate_base(config, policy)
    (found,) = arm_scores(Run(store, config))

    letters = "".join(TABLE)
    assert found.score.avg_at_k.value == pytest.approx(letters.count("R") / len(letters), abs=1e-12)
    assert found.score.pass_at_k.value == pytest.approx(4 / 5)
    assert found.score.truncated_share == pytest.approx(letters.count("T") / len(letters))
    assert found.score.no_answer_share == pytest.approx(letters.count("N") / len(letters))
    assert found.score.unjudged_share == 0
    assert found.score.avg_at_k.num_problems == len(TABLE)
    majority = found.score.maj_at_k
    if format_.name in ("humaneval", "mbpp"):
        assert majority is None
    else:
        assert majority is not None
        assert majority.value == pytest.approx(2 / 5)  # the first two; the third loses, the fourth is silent

    evaluate_base(config, policy)
    assert sorted(policy.asked) == sorted(answers), "what is there is not sampled again"


def test_a_shard_that_may_not_begin_is_left_for_another_time(tmp_path: Path) -> None:
    format_ = FORMATS[0]
    path = write_rows(tmp_path / "rows.jsonl", [format_.row(i) for i in range(6)])
    config = run_config(
        tmp_path, [{"name": format_.name, "problems": {"path": str(path), "shard_size": 2}}], num_samples=1
    )
    prompter = embedded_prompter(config)
    questions = [format_.asked(i) for i in range(6)]
    policy = LookupPolicy(
        prompter, {asked: [said(prompter, format_.right(i))] for i, asked in enumerate(questions)}
    )
    answers = iter([True])  # then no
    evaluate_base(config, policy, may_begin=lambda: next(answers, False))
    assert len(policy.asked) == 2, "one shard, and nothing else was begun"
    store = evaluate_base(config, policy)
    assert sorted(policy.asked) == sorted(questions), "the rest, and nothing twice"
    (found,) = arm_scores(Run(store, config))
    assert found.score.avg_at_k.value == 1
