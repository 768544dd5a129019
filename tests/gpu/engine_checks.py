"""vLLM as drsft drives it: rollouts, hinted pairs and a trained export, each against another way.

A text that an engine sampled is scored again by the trainer's model in fp32, token by token. Texts of two
engines need not be equal in bf16, where the company in a batch decides near ties; log-probs must be close.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from drsft.bench.hinted.peer_loop import decode_by_default
from drsft.bench.subprocesses import last_json_line, run_side
from drsft.config import Constant, Linear, Mixing, Rewrite, SamplingPhase
from drsft.policy.cache_size import model_shape
from drsft.policy.card_budget import engine_share, smallest_card_bytes
from drsft.policy.engines import build_engines
from drsft.policy.hinted.protocol import Contexts
from drsft.policy.prompts import model_location
from drsft.policy.vllm.policy import VLLMPolicy
from drsft.records import Completion, Phase, Record, Sampling, stable_seed
from drsft.rewrite.cascade import Recipe, rewrite_one
from drsft.verify.pool import VerifierPool
from tests.gpu.scene import Row, Scene, within
from tests.gpu.training_checks import EXPORT

__all__ = ["export", "hinted", "rollouts"]

Text = tuple[Sequence[int], Sequence[int]]  # prompt and completion
MOST_MEAN_ERROR = 5e-2  # nats, of a token's log-prob in bf16 against fp32
NUM_SAMPLES = 4


def rollouts(scene: Scene) -> list[Row]:
    """The cascade of rewriting on an engine, against LLM.generate on the same requests."""
    problems = scene.problems(16 if scene.is_toy else 512)
    phase = SamplingPhase(
        num_samples=NUM_SAMPLES, wave_size=NUM_SAMPLES, max_tokens=64 if scene.is_toy else 512
    )
    rewrite = Rewrite(self_align=phase, guided={"num_samples": 0})  # type: ignore[arg-type]
    peer = _generated(scene, [scene.prompter.plain(one) for one in problems], phase)
    target, prompter = scene.target, scene.prompter
    recipe = Recipe.of(rewrite, prompter, run_seed=0, max_model_len=target.max_model_len, decoder=None)
    verifier = VerifierPool.from_config(rewrite.verification, num_workers=2)

    async def rewritten(policy: VLLMPolicy) -> list[Record]:
        return await asyncio.gather(*(rewrite_one(one, policy, verifier, recipe) for one in problems))

    policy = build_engines(target, prompter, rewrite).policy
    try:
        started_s = time.perf_counter()
        records = asyncio.run(rewritten(policy))
        seconds = time.perf_counter() - started_s
        held = _card_bytes_held()
    finally:
        policy.close()
        verifier.close()
    sampled = [(record.prompt_ids, one.rollout.completion) for record in records for one in record.attempts]
    rate = sum(len(completion.token_ids) for _, completion in sampled) / seconds
    return [
        Row(check="rollouts", what="cascade, tokens/s", found=f"{rate:,.0f}"),
        Row(check="rollouts", what="LLM.generate, tokens/s", found=f"{peer:,.0f}"),
        Row(check="rollouts", what="cascade over LLM.generate", found=f"{rate / peer:.2f}"),
        Row(check="rollouts", what="utilisation of decoding", found=_utilisation(scene, rate)),
        _memory(scene, held),
        _scored_again(scene, "rollouts", scene.model, sampled[:64]),
    ]


def _generated(scene: Scene, prompts: Sequence[Sequence[int]], phase: SamplingPhase) -> float:
    """Returns LLM.generate's tokens per second, in a process of its own."""
    problems = scene.problems(len(prompts))
    sampling = {"num_samples": phase.num_samples, "temperature": 1.0, "max_tokens": phase.max_tokens}
    seeds = [stable_seed(0, problem.problem_id, Phase.SELF_ALIGN, "0") for problem in problems]
    work = scene.folder / "generate.json"
    work.write_text(
        json.dumps(
            {
                "target": scene.target.model_dump(mode="json"),
                "end_token_ids": scene.prompter.turn.end_token_ids,
                "prompts": prompts,
                "requests": [sampling | {"seed": seed} for seed in seeds],
            }
        )
    )
    told = last_json_line(run_side([sys.executable, "-m", "drsft.bench.rewriting.peer_vllm", str(work)]))
    return float(told["num_tokens"] / told["seconds"])


def _utilisation(scene: Scene, tokens_per_s: float) -> str:
    """Two operations for each parameter and token; prompts and attention are left out."""
    from drsft.train.flops import peak_flops

    peak = peak_flops(scene.device)
    if peak is None:
        return "no known peak"
    shape = model_shape(model_location(scene.model))
    return f"{2 * shape.num_parameters * tokens_per_s / peak:.1%}"


def _card_bytes_held() -> int | None:
    if not torch.cuda.is_available():
        return None
    free, total = torch.cuda.mem_get_info()
    return total - free


def _memory(scene: Scene, held: int | None) -> Row:
    what, card_bytes = "card while sampling, GB", smallest_card_bytes()
    if held is None or card_bytes is None:
        return Row(check="rollouts", what=what, found="no card")
    size = model_shape(model_location(scene.model)).size(scene.target.dtype)
    planned = engine_share(scene.target, size, beside={}, card_bytes=card_bytes) * card_bytes
    return Row(check="rollouts", what=what, found=f"{held / 1e9:.1f} (planned {planned / 1e9:.1f})")


def hinted(scene: Scene) -> list[Row]:
    """Pairs decoded in step in vLLM: each context alone, and greedy texts decoded one problem at a time."""
    from drsft.policy.hinted.torch_engine import load_model
    from drsft.policy.hinted.vllm_engine import VLLMHintedDecoder

    prompter, problems = scene.prompter, scene.problems(16 if scene.is_toy else 256)
    contexts = [Contexts(hinted_ids=prompter.guided(one), plain_ids=prompter.plain(one)) for one in problems]
    max_tokens = 48 if scene.is_toy else 256
    drawn = Sampling(num_samples=1, temperature=1.0, max_tokens=max_tokens, seed=0)
    greedy = Sampling(num_samples=1, temperature=0.0, max_tokens=max_tokens, seed=0)
    alone = {
        "hinted_ids": Mixing(schedule=Linear(beta=0), hinted_first_token=False, answer_marker=None),
        "plain_ids": Mixing(schedule=Constant(weight=1), hinted_first_token=False, answer_marker=None),
    }
    with VLLMHintedDecoder(scene.target, prompter) as decoder:

        async def decode(mixing: Mixing, sampling: Sampling) -> list[Completion]:
            found = await asyncio.gather(*(decoder.decode(one, mixing, sampling) for one in contexts))
            return [completions[0] for completions in found]

        started_s = time.perf_counter()
        mixed = asyncio.run(decode(Mixing(), greedy))
        rate = sum(len(one.token_ids) for one in mixed) / (time.perf_counter() - started_s)
        sampled = {side: asyncio.run(decode(mixing, drawn)) for side, mixing in alone.items()}
        counts = asdict(decoder.counts)
    rows = [
        Row(check="hinted", what="tokens/s of pairs, greedy", found=f"{rate:,.0f}"),
        Row(check="hinted", what="pairs, redone, decoded apart", found=", ".join(map(str, counts.values()))),
    ]
    for side, completions in sampled.items():
        texts = [(getattr(one, side), done) for one, done in zip(contexts, completions, strict=True)]
        rows.append(_scored_again(scene, "hinted", scene.model, texts[:64], of=f"{side[:-4]} alone"))
    model, few = load_model(scene.target), 4
    by_loop = [decode_by_default(model, prompter, one, max_tokens=max_tokens) for one in contexts[:few]]
    num_equal = sum(one.token_ids == ids for one, ids in zip(mixed, by_loop, strict=False))
    is_kept = num_equal == few if scene.is_toy else None  # bf16 decides near ties differently
    found = f"{num_equal} of {few}"
    return [*rows, Row(check="hinted", what="greedy texts equal one by one", found=found, is_kept=is_kept)]


def export(scene: Scene) -> list[Row]:
    """What the training check exported, read by vLLM: its samples, scored again by the trainer's model."""
    folder = str(scene.folder / EXPORT)
    target = scene.target.model_copy(update={"model": folder})
    prompts = [scene.prompter.plain(one) for one in scene.problems(16)]
    sampling = Sampling(num_samples=1, temperature=1.0, max_tokens=64, seed=0)

    async def generate(policy: VLLMPolicy) -> list[list[Completion]]:
        return await asyncio.gather(*(policy.generate(prompt, sampling) for prompt in prompts))

    with VLLMPolicy(target, scene.prompter) as policy:
        completions = [found[0] for found in asyncio.run(generate(policy))]
    return [_scored_again(scene, "export", folder, list(zip(prompts, completions, strict=True)))]


def _scored_again(
    scene: Scene, check: str, model: str, sampled: Sequence[tuple[Any, Completion]], *, of: str = ""
) -> Row:
    """Returns the mean difference of the engine's log-probs and those of the trainer's model in fp32."""
    texts: list[Text] = [(prompt, completion.token_ids) for prompt, completion in sampled]
    told = [completion.behaviour_logprobs_T or () for _, completion in sampled]
    with _scoring(scene, model) as score:
        errors = np.concatenate(
            [np.abs(np.asarray(ours) - wanted) for ours, wanted in zip(told, score(texts), strict=True)]
        )
    what = f"log-probs against fp32{f', {of}' if of else ''}"
    return within(check, what, float(errors.mean()), MOST_MEAN_ERROR)


@contextmanager
def _scoring(scene: Scene, model: str) -> Iterator[Any]:
    from drsft.gap.scoring import score_rows
    from drsft.train.model import load_model

    causal_lm = load_model(model_location(model)).eval().to(scene.device)

    def score(texts: Sequence[Text]) -> list[Any]:
        return [scores.logprobs_T for scores in score_rows(causal_lm, texts)]

    yield score
