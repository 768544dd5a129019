"""Objectives that compare: with the frozen start, and with the policy itself some steps ago."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from drsft.config import Guards, Objective, Train
from drsft.config.objectives import Asft, Dft, DftSeq, IwSft, IwSftToken, Psft, Sft, Talr
from drsft.storage import LocalStore
from drsft.train.loop import train_one
from drsft.train.micro_batch import micro_batch, occurrences
from drsft.train.model import ScoringModel, load_model
from drsft.train.reference import References
from drsft.train.scores import score
from drsft.train.step import accumulate_gradient
from drsft.train.world import World
from tests.support.train import END_OF_TURN, make_examples, make_rows, make_training, save_tiny_model
from tests.train.test_loop import TRAIN, metrics_in

NUM_EXAMPLES = 14
OTHER_ENDS = 0.7  # how far the other model's head is from the policy's


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_model(tmp_path_factory.mktemp("model"), tied=False)


def other_model(location: str) -> Any:
    """The start, or the older policy, of the tests: the same model with another head."""
    causal_lm = load_model(location)
    with torch.no_grad():
        causal_lm.lm_head.weight.mul_(OTHER_ENDS)
    return causal_lm


def gradients(
    location: str, objective: Objective, *, micro_batch_rows: int, guards: Guards
) -> dict[str, Tensor]:
    train = Train(micro_batch_rows=micro_batch_rows, batch_rows=64, seq_len=32)
    rows = make_rows(NUM_EXAMPLES)
    everything = range(len(rows))
    other = ScoringModel(other_model(location)).requires_grad_(False)
    scores = score(other, rows, everything, micro_batch_rows=3, world=World())
    references = References(start=scores, start_model=other, snapshot=scores, median_loss=2.5)
    model = ScoringModel(load_model(location).train())
    accumulate_gradient(
        model,
        list(everything),
        objective=objective,
        guards=guards,
        references=references,
        train=train,
        rows=rows,
        world=World(),
    )
    named = model.named_parameters()
    return {name.removeprefix("causal_lm."): p.grad for name, p in named if p.grad is not None}


def oracle_loss(
    objective: Objective, logits_NV: Tensor, other_NV: Tensor, ids_N: Tensor, guards: Guards
) -> Tensor:
    """Σ over one document's loss tokens, with all logits, as the papers write it."""
    logp_NV, other_logp_NV = logits_NV.log_softmax(-1), other_NV.log_softmax(-1)
    logp_N, other_N = (full.gather(-1, ids_N[:, None])[:, 0] for full in (logp_NV, other_logp_NV))
    p_N, ratio_N = logp_N.detach().exp(), (logp_N - other_N).exp()
    kl = 0
    match objective:
        case Psft():
            return -torch.minimum(ratio_N, ratio_N.clamp(0.8, 1.28)).sum()
        case IwSft(temperature=temperature):
            weight_N = (temperature * ratio_N.detach().log().mean()).exp().clamp(max=16).expand_as(p_N)
        case IwSftToken():
            weight_N = ratio_N.detach().clamp(0.2, 1.8)
        case DftSeq():
            weight_N = p_N.prod().expand_as(p_N)
        case Talr():
            weight_N = (p_N ** (1 / 2.5)).clamp(min=0.01)
        case Asft(kl_weight=kl_weight):
            weight_N = p_N
            kl = kl_weight * (other_logp_NV.exp() * (other_logp_NV - logp_NV)).sum()
        case _:
            weight_N = p_N
    weight_N = weight_N.clamp(min=guards.min_weight).clone()
    if guards.exempt_end_of_turn:
        weight_N[-1] = 1
    return -(weight_N * logp_N).sum() + kl


def oracle_gradients(location: str, objective: Objective, guards: Guards) -> dict[str, Tensor]:
    """Example by example, unpacked."""
    causal_lm, other = load_model(location), other_model(location)
    examples = make_examples(NUM_EXAMPLES)
    num_loss_tokens = sum(int(example.loss_mask_T.sum()) for example in examples)
    for example in examples:
        ids_T = torch.from_numpy(example.input_ids_T).long()
        mask_T = torch.from_numpy(example.loss_mask_T)[1:]
        logits_TV = causal_lm(ids_T[None], use_cache=False).logits[0, :-1][mask_T]
        with torch.no_grad():
            other_TV = other(ids_T[None], use_cache=False).logits[0, :-1][mask_T]
        loss = oracle_loss(objective, logits_TV, other_TV, ids_T[1:][mask_T], guards)
        (loss / num_loss_tokens).backward()
    return {name: p.grad for name, p in causal_lm.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("micro_batch_rows", [1, 2, 64])
@pytest.mark.parametrize(
    ("objective", "guards"),
    [
        (IwSft(temperature=2), Guards()),
        (IwSftToken(), Guards()),
        (DftSeq(), Guards()),
        (Asft(kl_weight=0.3), Guards()),
        (Psft(), Guards()),
        (Talr(), Guards()),
        (Dft(), Guards(min_weight=0.05, exempt_end_of_turn=True)),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_gradients_equal_the_definition_for_any_micro_batch(
    location: str, objective: Objective, guards: Guards, micro_batch_rows: int
) -> None:
    want = oracle_gradients(location, objective, guards)
    got = gradients(location, objective, micro_batch_rows=micro_batch_rows, guards=guards)
    assert got.keys() == want.keys()
    for name, gradient in want.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-5, atol=1e-6, msg=name)


def train(location: str, out: Path, objective: Objective, *, seed: int = 0) -> list[dict[str, Any]]:
    store = LocalStore(out / f"seed-{seed}")
    training = make_training(location, make_rows(30), TRAIN, objective, seed=seed)
    train_one(training, store=store, rows_store=LocalStore(out / "rows"))
    return metrics_in(store)


def test_iw_sft_starts_as_sft_and_the_start_is_scored_once(location: str, tmp_path: Path) -> None:
    rows = train(location, tmp_path, IwSft())
    sft = train(location, tmp_path / "sft", Sft())
    assert rows[0]["mean_weight"] == pytest.approx(1, abs=1e-5)
    assert rows[0]["loss"] == pytest.approx(sft[0]["loss"], rel=1e-5)
    assert rows[-1]["mean_weight"] > 1.05, "it learns, so the weights grow"
    kept = tmp_path / "rows/start-logprobs.npy"
    written_at = kept.stat().st_mtime_ns
    again = train(location, tmp_path, IwSft(), seed=1)
    assert kept.stat().st_mtime_ns == written_at
    assert again[0]["mean_weight"] == pytest.approx(1, abs=1e-5)


def test_asft_leaves_its_start_and_the_kl_holds_it(location: str, tmp_path: Path) -> None:
    loose, tight = (train(location, tmp_path / str(w), Asft(kl_weight=w)) for w in (0.0, 5.0))
    assert loose[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert 0 < tight[-1]["kl"] < 0.7 * loose[-1]["kl"]


def test_talr_takes_its_median_from_the_step(location: str, tmp_path: Path) -> None:
    rows = train(location, tmp_path, Talr())
    assert rows[-1]["ce"] < rows[0]["ce"]
    assert all(0.01 <= row["mean_weight"] <= 1 for row in rows)


def test_the_last_token_of_each_document_ends_its_turn() -> None:
    rows = make_rows(NUM_EXAMPLES)
    batch = micro_batch(rows, [0, 1], torch.device("cpu"))
    ids_T, _, mask_T, lengths = batch.inputs
    labels_N = ids_T[mask_T]
    assert len(batch.document_ids_N) == len(labels_N)
    assert batch.is_last_N.sum() == len(lengths)
    assert (labels_N[batch.is_last_N] == END_OF_TURN).all()
    assert not batch.is_exempt_N.any()


def test_exempt_texts_are_found_as_sequences_of_tokens() -> None:
    rows = make_rows(NUM_EXAMPLES)
    documents = rows.documents([0])
    pattern = tuple(documents.input_ids_T[documents.loss_mask_T][:2].tolist())
    batch = micro_batch(rows, [0], torch.device("cpu"), exempt_patterns=[pattern])
    assert batch.is_exempt_N[:2].all()
    ids = torch.tensor([1, 2, 3, 1, 2, 1, 1]).numpy()
    assert occurrences(ids, [(1, 2)]).tolist() == [True, True, False, True, True, False, False]
    assert occurrences(ids, [(1, 1), (3,)]).tolist() == [False, False, True, False, False, True, True]
    assert not occurrences(ids, [(9,) * 10]).any()
