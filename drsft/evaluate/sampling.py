"""k judged samples of one problem through the same policy and verifier that rewriting uses."""

import asyncio
from dataclasses import dataclass

import pyarrow as pa

from drsft.config import Evaluate
from drsft.policy.prompts import Prompter
from drsft.policy.protocol import Policy
from drsft.records import Attempt, Problem, Rollout, Sampling, stable_seed
from drsft.verify.protocol import Verifier

__all__ = ["SAMPLE_SCHEMA", "Evaluation", "evaluate_one", "samples_to_table"]

SAMPLE_SCHEMA = pa.schema(
    [
        pa.field("problem_id", pa.string(), nullable=False),
        pa.field("sample_index", pa.int32(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("num_tokens", pa.int32(), nullable=False),
        pa.field("finish_reason", pa.string(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("answer", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What is the same for every problem of an evaluation."""

    protocol: Evaluate
    prompter: Prompter
    run_seed: int


async def evaluate_one(
    problem: Problem, policy: Policy, verifier: Verifier, evaluation: Evaluation
) -> list[Attempt]:
    """The problem's k samples with their verdicts. Seeds do not depend on the model, so models are paired."""
    protocol = evaluation.protocol
    prompt_ids = evaluation.prompter.plain(problem)
    seed = stable_seed(evaluation.run_seed, problem.problem_id, "evaluate")
    sampling = Sampling(
        num_samples=protocol.num_samples,
        temperature=protocol.temperature,
        top_p=protocol.top_p,
        max_tokens=protocol.max_tokens,
        seed=seed,
    )
    completions = await policy.generate(prompt_ids, sampling)
    verdicts = await asyncio.gather(
        *(verifier.judge(problem, one.text, is_truncated=one.finish_reason != "stop") for one in completions)
    )
    return [
        Attempt(
            rollout=Rollout(
                stage="evaluate", sample_index=i, seed=seed + i, prompt_hash="", completion=completion
            ),
            verdict=verdict,
        )
        for i, (completion, verdict) in enumerate(zip(completions, verdicts, strict=True))
    ]


def samples_to_table(problems: list[Problem], attempts: list[list[Attempt]]) -> pa.Table:
    rows = [
        {
            "problem_id": problem.problem_id,
            "sample_index": attempt.rollout.sample_index,
            "seed": attempt.rollout.seed,
            "text": attempt.rollout.completion.text,
            "num_tokens": len(attempt.rollout.completion.token_ids),
            "finish_reason": attempt.rollout.completion.finish_reason,
            "outcome": attempt.verdict.outcome.value,
            "reason": attempt.verdict.reason,
            "answer": attempt.verdict.answer,
        }
        for problem, tried in zip(problems, attempts, strict=True)
        for attempt in tried
    ]
    return pa.Table.from_pylist(rows, schema=SAMPLE_SCHEMA)
