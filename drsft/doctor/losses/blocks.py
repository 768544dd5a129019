"""Checks the parts of a fixtures file that are not cases of losses.

Such a part, called a block, is the value of a top-level key of the file: alignment, normalisation, selection,
EMA or Hinted Decoding. Its expected values are compared with what the code of a run computes.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_avg_fn

from drsft.config import DataView, Rewrite
from drsft.config.objectives import Dft, IwSft, Sft
from drsft.doctor.losses.findings import Finding, error_between
from drsft.doctor.losses.hinted_steps import hinted_step_errors
from drsft.errors import InputError
from drsft.objectives.head import Head
from drsft.objectives.loss import LossRequest, fused_loss
from drsft.objectives.statistics import TokenStatistics, predicted
from drsft.objectives.weights import TokenContext, token_weights
from drsft.policy.fake import FakePolicy, text_completion
from drsft.policy.prompts import Prompter
from drsft.records import Completion, Outcome, Problem, Source, Verdict
from drsft.rewrite.cascade import Recipe, rewrite_one
from drsft.train.encode import encode

__all__ = ["BLOCKS", "block_findings"]


def block_findings(tree: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    """Computes the blocks in `tree`, the content of the fixtures file at `path`; yields the error of each of
    their numbers.

    Raises InputError for a block that cannot be read.
    """
    for block, check in BLOCKS.items():
        if block not in tree:
            continue
        try:
            for quantity, error in check(tree[block]):
                yield Finding(block=block, subject=block, quantity=quantity, error=error)
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{path}: what is under the key {block!r} cannot be read: {error!r}") from error


def _shift_alignment(block: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Checks which logit predicts which token, from a record's token ids through the loss mask to the loss;
    yields the errors.
    """
    ids, prompt_len = block["input_ids"][0], block["prompt_len"]
    record = {"problem_id": "p", "source": Source.OWN.value, "prompt_ids": ids[:prompt_len]}
    table = pa.Table.from_pylist([{**record, "completion_ids": ids[prompt_len:]}])
    (example,) = encode(table, data=DataView.REWRITTEN, seq_len=len(ids)).examples
    logits_TV = _tensor(block["logits"])[0]
    ids_T, mask_T = torch.from_numpy(example.input_ids_T).long(), torch.from_numpy(example.loss_mask_T)
    yield "loss mask", error_between(mask_T[1:], _tensor(block["mask_correct_for_shifted_loss"]))
    everything_T = torch.ones_like(mask_T)
    yield (
        "log-probs",
        error_between(
            _loss(*predicted(logits_TV, ids_T, everything_T), Sft())[1].logprobs_N,
            _tensor(block["token_logprobs_shifted"]),
        ),
    )
    for name, objective in (("sft", Sft()), ("dft", Dft())):
        loss, _ = _loss(*predicted(logits_TV, ids_T, mask_T), objective)
        yield f"{name} loss", error_between(loss, _tensor(block[f"{name}_loss_correct"]))


def _loss(logits_NV: Tensor, labels_N: Tensor, objective: Sft | Dft) -> tuple[Tensor, TokenStatistics]:
    head = Head(weight_VD=torch.eye(logits_NV.shape[-1], dtype=torch.float64))
    request = LossRequest(num_loss_tokens=len(labels_N), objective=objective)
    fused = fused_loss(logits_NV, head, labels_N, request)
    return fused.loss, fused.statistics


def _normalisation(block: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Checks that micro-batch losses, each divided by the step's token count, sum to the token mean; yields
    the errors.
    """
    head = Head(weight_VD=torch.eye(2, dtype=torch.float64))
    num_tokens = sum(len(losses) for losses in block["micro_batches"])
    total = torch.zeros((), dtype=torch.float64)
    for losses in block["micro_batches"]:
        # Two tokens of probabilities e^−loss and 1 − e^−loss, the first the label.
        p_N = (-_tensor(losses)).exp()
        logits_NV = torch.stack([p_N, 1 - p_N], -1).log().clamp(min=-1e30)
        request = LossRequest(num_loss_tokens=num_tokens, objective=Sft())
        total += fused_loss(logits_NV, head, torch.zeros(len(losses), dtype=torch.long), request).loss
    yield "global token mean", error_between(total, _tensor(block["global_token_mean"]))


def _moving_average(block: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Checks iw-SFT's control variant (the sequence weight at its temperature and limit, and PyTorch's EMA);
    yields errors.
    """
    log_ratio_M = _tensor(block["seq_logq_minus_logref_mean"])
    objective = IwSft(temperature=block["temp"], max_weight=1000.0)
    context = TokenContext(
        start_logprobs_N=torch.zeros_like(log_ratio_M), document_ids_N=torch.arange(len(log_ratio_M))
    )
    weight_M = token_weights(objective, TokenStatistics(log_ratio_M, torch.zeros_like(log_ratio_M)), context)
    yield "ratio", error_between(weight_M, _tensor(block["ratio"]))
    yield "ratio, normalised", error_between(weight_M / weight_M.sum(), _tensor(block["ratio_normalised"]))
    average: Callable[..., Tensor] = get_ema_avg_fn(block["ema_decay"])  # type: ignore[no-untyped-call]
    found = average(_tensor(block["theta_q_before"]), _tensor(block["theta"]), torch.tensor(1))
    yield "moving average", error_between(torch.as_tensor(found), _tensor(block["theta_q_after"]))


def _selection(block: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Runs the cascade on samples with given verdicts.

    Yields 0 where stage and kept sample are right, else infinity.
    """
    for number, case in enumerate(block["cases"]):
        stage, kept = asyncio.run(_rewrite(case["self"] or (), case["guided"] or ()))
        is_right = stage == case["stage"] and (kept == case["keep_from"] or kept in case["keep_from"])
        yield f"case {number}", 0.0 if is_right else float("inf")


async def _rewrite(alone: Sequence[int], guided: Sequence[int]) -> tuple[str, int | str]:
    """Returns the stage that a problem ends in, and which of its samples is kept."""
    flags = {"self": alone, "guided": guided}
    drawn = {"self": 0, "guided": 0}

    def answer(prompt_ids: Sequence[int], seed: int) -> Completion:
        stage = "guided" if tuple(prompt_ids) == GUIDED_IDS else "self"
        drawn[stage] += 1
        return text_completion(f"{stage} {drawn[stage] - 1}")

    problem = Problem(problem_id="p", question="?", demonstration="expert", reference="!")
    recipe = Recipe(
        rewrite=Rewrite.model_validate(
            {"self_align": _stage(alone), "guided": _stage(guided), "grounding": None}
        ),
        prompter=cast(Prompter, _PROMPTER),
        run_seed=0,
        max_model_len=100,
    )
    record = await rewrite_one(problem, FakePolicy(answer), _FlagVerifier(flags), recipe)
    stages = {Source.OWN: "self", Source.REWRITTEN: "guided", Source.EXPERT: "fallback"}
    place = record.text.split()[-1]
    return stages.get(record.source, record.source.value), "expert" if place == "expert" else int(place)


def _stage(flags: Sequence[int]) -> dict[str, int]:
    return {"num_samples": len(flags), "wave_size": max(len(flags), 1), "max_tokens": 50}


@dataclass(frozen=True)
class _FlagVerifier:
    """Judges a text of the form "stage index" by the flags of that stage."""

    flags: Mapping[str, Sequence[int]]

    async def judge(self, problem: Problem, text: str, *, is_truncated: bool = False) -> Verdict:
        stage, *index = text.split()
        is_right = stage == "expert" or bool(self.flags[stage][int(index[0])])
        return Verdict(outcome=Outcome.CORRECT if is_right else Outcome.WRONG, reason="given")


GUIDED_IDS = (2,)
_PROMPTER = SimpleNamespace(  # what the cascade asks of a prompter, without a tokenizer
    plain=lambda problem: (1,), guided=lambda problem: GUIDED_IDS, solution=text_completion
)


def _hinted_steps(steps: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, float]]:
    for step in steps:
        for quantity, error in hinted_step_errors(step).items():
            yield f"{step.get('name', 'step')} {quantity}", error


def _tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


BLOCKS: dict[str, Callable[[Any], Iterator[tuple[str, float]]]] = {
    "shift_alignment": _shift_alignment,
    "microbatch_normalisation": _normalisation,
    "iw_sft_ema": _moving_average,
    "dr_selection": _selection,
    "hinted_decoding_steps": _hinted_steps,
}
