"""The theorem behind the gap report, on the embedded model: samples at temperature 1 have a mean phi of zero.

They are drawn by transformers' own generation, so that neither drsft's engines nor its scoring checks itself.
"""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from drsft.config import Prompts
from drsft.gap.scoring import Row, score_rows
from drsft.policy.prompts import Prompter, load_prompter, model_location
from drsft.records import Problem
from tests.base_model.task import PLAIN_PROMPT, Split, WordProblem, make_problems

pytestmark = pytest.mark.slow

NUM_PROBLEMS, NUM_SAMPLES, BATCH_PROBLEMS, MAX_TOKENS = 250, 4, 25, 48


@pytest.fixture(scope="module")
def prompter() -> Prompter:
    return load_prompter("embedded", Prompts(plain=PLAIN_PROMPT))


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(model_location("embedded"), dtype=torch.float32).eval()


def plain_ids(problem: WordProblem, prompter: Prompter) -> list[int]:
    one = Problem(problem_id="", question=problem.question, demonstration="", reference="")
    return list(prompter.plain(one))


def own_samples(model: torch.nn.Module, prompts: list[list[int]], end_id: int) -> list[Row]:
    """One for each prompt, cut behind its end of turn or at MAX_TOKENS."""
    longest = max(map(len, prompts))
    ids_BL = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask_BL = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    drawn_BL = model.generate(  # type: ignore[operator]
        input_ids=ids_BL, attention_mask=mask_BL, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
        max_new_tokens=MAX_TOKENS, eos_token_id=end_id, pad_token_id=end_id,
    )[:, longest:]  # fmt: skip
    rows = []
    for prompt, drawn in zip(prompts, drawn_BL.tolist(), strict=True):
        end = drawn.index(end_id) + 1 if end_id in drawn else len(drawn)
        rows.append((prompt, drawn[:end]))
    return rows


def mean_phi(model: torch.nn.Module, rows: list[Row]) -> float:
    """Over all tokens, nats."""
    return float(np.concatenate([score.phi_T for score in score_rows(model, rows)]).mean())  # type: ignore[arg-type]


def test_own_samples_have_no_gap_and_experts_texts_have_one(
    model: torch.nn.Module, prompter: Prompter
) -> None:
    torch.manual_seed(0)
    problems = list(make_problems(Split.TRAIN, NUM_PROBLEMS))
    prompts = [plain_ids(problem, prompter) for problem in problems]
    own = [
        row
        for start in range(0, NUM_PROBLEMS, BATCH_PROBLEMS)
        for row in own_samples(
            model, prompts[start : start + BATCH_PROBLEMS] * NUM_SAMPLES, prompter.end_of_turn_id
        )
    ]
    experts = [
        (prompt, prompter.completion(problem.demonstration))
        for prompt, problem in zip(prompts, problems, strict=True)
    ]
    assert len(own) == 1000
    assert abs(mean_phi(model, own)) < 0.02
    assert mean_phi(model, experts) < -0.5
