"""Weights and guards of single tokens, computed by hand. `test_doctor_losses.py` has the slow oracle."""

import math
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from drsft.config.objectives import (
    Asft,
    Dft,
    DftGeomean,
    Eaft,
    EaftFull,
    Guards,
    Idft,
    IwSft,
    Objective,
    Psft,
    Sft,
    Talr,
    objectives_by_kind,
)
from drsft.objectives.document_means import median_document_loss
from drsft.objectives.statistics import TokenStatistics
from drsft.objectives.weights import TokenContext, guarded_terms, token_terms, token_weights

PROBABILITIES = [0.5, 0.05, 0.97]
IDS = torch.tensor([0, 0, 1])


def statistics_of(probabilities: list[float], entropy: float = 0.3) -> TokenStatistics:
    logprobs_N = torch.tensor(probabilities, dtype=torch.float64).log()
    return TokenStatistics(logprobs_N, torch.full_like(logprobs_N, entropy))


def weights(objective: Objective, **context: object) -> list[float]:
    context = {"document_ids_N": IDS, **context}
    found = token_weights(objective, statistics_of(PROBABILITIES), TokenContext(**context))  # type: ignore[arg-type]
    assert not found.requires_grad
    return found.tolist()


def logs(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).log()


def test_dft_weighs_by_p_and_sft_not_at_all() -> None:
    assert weights(Dft()) == pytest.approx(PROBABILITIES)
    assert weights(Sft()) == [1, 1, 1]


def test_a_completion_shares_one_weight_wherever_its_tokens_lie() -> None:
    root = math.sqrt(0.5 * 0.05)
    assert weights(DftGeomean()) == pytest.approx([root, root, 0.97])
    start = logs(0.25, 0.1, 0.97)  # ratios 2, 1/2 and 1: the first completion's geometric mean is 1
    assert weights(IwSft(), start_logprobs_N=start) == pytest.approx([1, 1, 1])


def test_iw_sft_starts_as_sft() -> None:
    statistics = statistics_of(PROBABILITIES)
    context = TokenContext.at_start(statistics, IDS)
    assert token_weights(IwSft(temperature=5), statistics, context).tolist() == [1, 1, 1]


def test_idft_warms_up_from_dft() -> None:
    objective = Idft(warmup_ratio=0.2, transition_ratio=0.2)
    dft, full = weights(Dft()), weights(Idft())
    assert weights(objective, progress=0.1) == pytest.approx(dft)
    assert weights(objective, progress=0.4) == pytest.approx(full)
    for low, middle, high in zip(dft, weights(objective, progress=0.3), full, strict=True):
        assert min(low, high) < middle < max(low, high)


def test_idft_of_a_typical_token_is_dft_and_of_an_unlikely_one_its_square() -> None:
    typical = statistics_of([0.5], entropy=math.log(2))
    unlikely = statistics_of([0.01], entropy=0.1)
    assert token_weights(Idft(), typical, TokenContext()).item() == pytest.approx(0.5)
    assert token_weights(Idft(), unlikely, TokenContext()).item() == pytest.approx(0.01**2)


def test_psft_stops_the_gradient_of_what_has_grown_enough() -> None:
    old = logs(0.25, 0.1, 0.97)  # ratios 2 (past 1.28), 1/2 (below, but that never stops), 1
    assert weights(Psft(), old_logprobs_N=old) == pytest.approx([0, 0.5, 1])


def test_talr_takes_the_lower_of_two_medians() -> None:
    losses = logs(0.5, 0.5, 0.1)
    assert median_document_loss(losses, IDS) == pytest.approx(math.log(2))
    assert weights(Talr(), median_loss=0.5) == pytest.approx([0.25, 0.01, 0.97**2])


@pytest.mark.parametrize(
    ("objective", "missing"),
    [
        (IwSft(), "the start's log-probs"),
        (Psft(), "the snapshot's log-probs"),
        (Talr(), "the median loss"),
        (Asft(), "the KL"),
        (Eaft(), "likeliest"),
        (EaftFull(), "vocabulary"),
    ],
)
def test_what_an_objective_lacks_is_named(objective: Objective, missing: str) -> None:
    with pytest.raises(ValueError, match=missing):
        weights(objective)


def test_needs_tell_what_must_be_scored() -> None:
    assert IwSft().needs.start_logprobs
    assert Asft().needs.start_model
    assert Psft(steps_per_snapshot=3).needs.steps_per_snapshot == 3
    assert Eaft(top_k=7).needs.top_k == 7
    assert not Dft().needs.compares


def test_guards_raise_weights_and_add_cross_entropy() -> None:
    statistics = statistics_of(PROBABILITIES)
    terms = token_terms(Dft(), statistics, TokenContext())
    is_exempt = torch.tensor([True, False, False])
    found = guarded_terms(terms, statistics.logprobs_N, Guards(min_weight=0.1), is_exempt)
    assert found.weight_N.tolist() == pytest.approx([1, 0.1, 0.97])
    assert found.is_clipped_N.tolist() == [True, True, False]
    expected = [-w * math.log(p) for w, p in zip([1, 0.1, 0.97], PROBABILITIES, strict=True)]
    assert found.loss_N.tolist() == pytest.approx(expected)


def test_without_guards_nothing_changes() -> None:
    statistics = statistics_of(PROBABILITIES)
    terms = token_terms(Dft(), statistics, TokenContext())
    found = guarded_terms(terms, statistics.logprobs_N, Guards(), torch.zeros(3, dtype=torch.bool))
    assert [column.tolist() for column in found] == [column.tolist() for column in terms]


def test_every_objective_has_a_row_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs/objectives.md").read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    documented = {kind for row in rows for kind in re.findall(r"`(\w+)`", row)}
    assert documented >= set(objectives_by_kind())
