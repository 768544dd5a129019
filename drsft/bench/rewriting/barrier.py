"""A baseline of the cascade bench: drsft's engine samples all problems, and only then all failed ones with a
guide.

    python -m drsft.bench.rewriting.barrier WORK.json

WORK.json contains the verdicts, so this process spends no time on them. Prints one JSON line {"num_tokens",
"seconds"}; the seconds do not include the engine's start.
"""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from drsft.config import Target
from drsft.policy.prompts import target_prompter
from drsft.policy.vllm.policy import VLLMPolicy
from drsft.records import Sampling

__all__: list[str] = []


def main() -> None:
    work = json.loads(Path(sys.argv[1]).read_text())
    target = Target.model_validate(work["target"])
    with VLLMPolicy(target, target_prompter(target)) as policy:
        started_s = time.monotonic()
        num_tokens = asyncio.run(_both_passes(policy, work["problems"]))
        print(json.dumps({"num_tokens": num_tokens, "seconds": time.monotonic() - started_s}))


async def _both_passes(policy: VLLMPolicy, problems: Sequence[dict[str, Any]]) -> int:
    """Samples all problems, then the failed ones with their guide; returns the number of sampled tokens."""
    num_tokens = await _pass(policy, [problem["self_align"] for problem in problems])
    failed = [problem for problem in problems if not any(problem["self_align"]["right"])]
    return num_tokens + await _pass(policy, [problem["guided"] for problem in failed])


async def _pass(policy: VLLMPolicy, requests: Sequence[dict[str, Any]]) -> int:
    completions = await asyncio.gather(
        *(policy.generate(request["prompt_ids"], Sampling(**request["sampling"])) for request in requests)
    )
    return sum(len(one.token_ids) for of_problem in completions for one in of_problem)


if __name__ == "__main__":
    main()
