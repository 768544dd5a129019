"""`drsft.gap` beside the scorer itself, and what `drsft.gap` and `drsft.verify` refuse."""

import pytest

import drsft
from drsft.errors import ConfigError, InputError
from drsft.gap.scoring import score_rows
from drsft.policy.prompts import Prompter
from drsft.train.model import load_for_scoring

TARGET = drsft.Target(model="embedded", max_model_len=512)
ROW = {"problem": "What is 3 plus 4?", "solution": "3 + 4 = 7. The answer is 7."}


def test_the_gap_is_the_mean_log_prob_of_the_texts(prompter: Prompter) -> None:
    texts = ["3 + 4 = 7.", "The sum is 7, as anybody sees."]
    rows = [{"problem": ROW["problem"], "solution": text} for text in texts]
    question = drsft.Problem(problem_id="", question=ROW["problem"], demonstration="", reference="")
    model = load_for_scoring("embedded", "float32")
    scored = score_rows(model, [(prompter.plain(question), prompter.completion(text)) for text in texts])
    expected = sum(one.logprobs_T.sum() for one in scored) / sum(len(one.logprobs_T) for one in scored)
    kept = drsft.gap(rows, TARGET).summary.group("kept")
    assert kept is not None
    assert kept.mean_logprob == pytest.approx(expected, rel=1e-6)
    assert kept.num_rows == 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "^gap: there are no rows"),
        ([ROW, {"problem": "What?"}], r"^rows\[1\]: no completion: it has problem"),
        (
            [{**ROW, "solution": "so many " * 600}],
            r"^rows\[0\]: too long for the model: more",
        ),
    ],
)
def test_rows_without_a_text_are_refused(rows: list[dict[str, str]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        drsft.gap(rows, TARGET)


def test_records_give_the_gap_only_under_the_prompts_that_made_them(prompter: Prompter) -> None:
    problem = drsft.Problem(problem_id="p", question="What?", demonstration="It is 7.", reference="7")
    solution = prompter.solution(problem.demonstration)
    record = drsft.Record(
        problem=problem,
        source=drsft.Source.EXPERT,
        prompt_ids=prompter.plain(problem),
        completion_ids=solution.token_ids,
        text=solution.text,
        behaviour_logprobs_T=None,
        expert_completion_ids=solution.token_ids,
    )
    assert [group.name for group in drsft.gap([record], TARGET).summary.groups][:2] == ["expert", "kept"]
    other = TARGET.model_copy(update={"prompts": drsft.Prompts(plain="Q: {question}")})
    with pytest.raises(InputError, match=r"^rows\[0\]: the record was made with another tokenizer"):
        drsft.gap([record], other)


def test_a_name_gets_the_length_that_its_model_can_read() -> None:
    with pytest.raises(InputError, match="more than 1024 tokens"):
        drsft.gap([{**ROW, "solution": "so many " * 1200}], "embedded")


def test_verify_is_unjudged_in_time_and_refuses_unknown_kinds() -> None:
    with pytest.raises(ConfigError, match=r"^unknown verifier kind 'maths'; known: "):
        drsft.verify("7", "7", kind="maths")
    strict = drsft.Verification(require_box=True)
    assert drsft.verify("7", "The answer is 7.").is_correct
    assert drsft.verify("7", "The answer is 7.", verification=strict).outcome is drsft.Outcome.NO_ANSWER
