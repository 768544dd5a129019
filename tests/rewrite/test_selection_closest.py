"""The selection "closest": right by a slow float64 oracle, and asked only where there is a choice."""

import asyncio
from collections.abc import Sequence

import pytest
import torch
from transformers import AutoModelForCausalLM

from drsft.config import Prompts
from drsft.gap.scorer import BatchedScorer
from drsft.policy.fake import FakePolicy, text_completion
from drsft.policy.prompts import load_prompter, model_location
from drsft.records import Attempt, Completion, Outcome, Phase, Problem, Rollout, Verdict
from drsft.rewrite.cascade import Recipe, rewrite_one
from drsft.rewrite.selection import choose
from drsft.run.tables import records_from_table, records_to_table
from drsft.train.model import load_model
from tests.rewrite.test_cascade import PLAIN, PROBLEM, TextVerifier, recipe

TEXTS = ("She has 43 + 46 = 89.", "89", "so 43 plus 46 gives 89 cups now", "cups cups cups", "46 + 43 = 89")


class CountingScorer:
    """Phi falls with length, so the shortest lies closest to zero; keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Sequence[Sequence[int]]] = []

    async def mean_phi(self, prompt_ids: Sequence[int], completions: Sequence[Sequence[int]]) -> list[float]:
        assert tuple(prompt_ids) == PLAIN, "phi is under the plain prompt, for guided samples too"
        self.asked.append(completions)
        return [-len(ids) / 100 for ids in completions]


def varied(prompt_ids: Sequence[int], seed: int) -> Completion:
    is_plain = tuple(prompt_ids) == PLAIN
    return text_completion("wrong" if is_plain else "right" + "!" * (seed % 5))


def closest(**changes: object) -> Recipe:
    stage = {"num_samples": 6, "wave_size": 6, "max_tokens": 64}
    return recipe(selection="closest", self_align=stage, guided=stage, **changes)


def test_the_closest_of_several_is_kept_and_its_phi_recorded() -> None:
    scorer = CountingScorer()
    record = asyncio.run(rewrite_one(PROBLEM, FakePolicy(varied), TextVerifier(), closest(), scorer=scorer))
    accepted = [attempt for attempt in record.attempts if attempt.is_accepted]
    assert record.completion_ids == min((a.rollout.completion.token_ids for a in accepted), key=len)
    assert all(a.mean_phi == -len(a.rollout.completion.token_ids) / 100 for a in accepted)
    assert all(a.mean_phi is None for a in record.attempts if not a.is_accepted)
    (asked,) = scorer.asked
    assert len(asked) == len({tuple(ids) for ids in asked}), "each different completion once"
    assert records_from_table(records_to_table([record])) == [record]


def test_nobody_is_asked_where_there_is_no_choice() -> None:
    scorer = CountingScorer()
    alike = FakePolicy(lambda prompt_ids, seed: text_completion("right"))
    record = asyncio.run(rewrite_one(PROBLEM, alike, TextVerifier(), closest(), scorer=scorer))
    by_chance = asyncio.run(rewrite_one(PROBLEM, FakePolicy(varied), TextVerifier(), recipe(), scorer=scorer))
    assert record.text == "right"
    assert by_chance.text.startswith("right")
    assert scorer.asked == []


def test_the_selection_without_a_scorer_is_refused() -> None:
    with pytest.raises(ValueError, match="scorer"):
        asyncio.run(rewrite_one(PROBLEM, FakePolicy(varied), TextVerifier(), closest()))


@pytest.mark.parametrize("worst", [None, float("nan"), float("-inf"), 3.0])
def test_far_and_unknown_come_last(worst: float | None) -> None:
    def attempt(index: int, mean_phi: float | None) -> Attempt:
        completion = text_completion(f"right {index}")
        rollout = Rollout(
            phase=Phase.GUIDED, sample_index=index, seed=0, prompt_hash="", completion=completion
        )
        verdict = Verdict(outcome=Outcome.CORRECT, reason="")
        return Attempt(rollout=rollout, verdict=verdict, mean_phi=mean_phi)

    attempts = [attempt(0, worst), attempt(1, -0.2), attempt(2, 0.1)]
    chosen = choose(attempts, "closest", 3, problem_id="p", run_seed=0)
    assert [one.rollout.sample_index for one in chosen] == [2, 1, 0]


def oracle(prompt_ids: Sequence[int], completion_ids: Sequence[int]) -> float:
    """One row alone, full logits, float64."""
    model = AutoModelForCausalLM.from_pretrained(model_location("embedded"), dtype=torch.float64).eval()
    ids = torch.tensor([[*prompt_ids, *completion_ids]])
    with torch.no_grad():
        log_p_TV = model(ids, use_cache=False).logits[0, len(prompt_ids) - 1 : -1].log_softmax(-1)
    logprobs_T = log_p_TV.gather(1, torch.tensor(completion_ids)[:, None])[:, 0]
    return float((logprobs_T - (log_p_TV.exp() * log_p_TV).sum(-1)).mean())


def test_scores_of_many_problems_at_once_equal_a_float64_oracle() -> None:
    prompter = load_prompter("embedded", Prompts(plain="{question}"))
    questions = [f"Ann has {n} cups, gets 46, gives 7. How many?" for n in range(8)]
    prompts = [
        prompter.plain(Problem(problem_id="p", question=question, demonstration="", reference="1"))
        for question in questions
    ]
    completions = [prompter.completion(text) for text in TEXTS]
    scorer = BatchedScorer(load_model(model_location("embedded")).eval(), batch_tokens=300)

    async def all_at_once() -> list[list[float]]:
        return await asyncio.gather(*(scorer.mean_phi(prompt, completions) for prompt in prompts))

    for _ in range(2):  # each asyncio.run is a loop of its own
        found = asyncio.run(all_at_once())
    for prompt, phis in zip(prompts, found, strict=True):
        assert phis == pytest.approx([oracle(prompt, ids) for ids in completions], abs=1e-4)


def test_a_row_that_fails_is_told_to_who_asked_for_it_alone_and_the_next_batch_works() -> None:
    scorer = BatchedScorer(load_model(model_location("embedded")).eval())

    async def ask() -> None:
        waiting = [scorer.mean_phi((1, 2), [(10**9,)]), scorer.mean_phi((1, 2), [(3,)])]
        failed, found = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(failed, (IndexError, RuntimeError))
        assert found == pytest.approx(await scorer.mean_phi((1, 2), [(3,)]))
        cancelled = asyncio.create_task(scorer.mean_phi((1, 2), [(3,)]))
        await asyncio.sleep(0)
        cancelled.cancel()
        assert len(await scorer.mean_phi((1, 2), [(3,), (4, 5)])) == 2
        with pytest.raises(ValueError, match="tokens"):
            await scorer.mean_phi((1, 2), [()])

    asyncio.run(ask())
