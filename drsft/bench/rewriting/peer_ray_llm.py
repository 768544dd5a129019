"""A baseline of the cascade bench: the same work with `ray.data.llm`, without drsft's engine or cascade.

    python -m drsft.bench.rewriting.peer_ray_llm WORK.json

Every problem is sampled n times, and a second processor guides the failures. `ray.data.llm` keeps one output
of a request only, so each sample is a row of its own. WORK.json contains the verdicts, so this process spends
no time on them. Prints one JSON line {"num_tokens"}.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray.data.llm import build_processor, vLLMEngineProcessorConfig

from drsft.config import Target
from drsft.policy.prompts import model_location
from drsft.policy.vllm.engine import engine_arguments
from drsft.stages.actors import quiet_ray_data
from drsft.stages.cluster import connected

__all__: list[str] = []


def main() -> None:
    work = json.loads(Path(sys.argv[1]).read_text())
    target = Target.model_validate(work["target"])
    with connected():
        quiet_ray_data()
        problems = work["problems"]
        num_tokens = _pass(target, work["end_token_ids"], [problem["self_align"] for problem in problems])
        failed = [problem["guided"] for problem in problems if not any(problem["self_align"]["right"])]
        num_tokens += _pass(target, work["end_token_ids"], failed)
    print(json.dumps({"num_tokens": num_tokens}))


def _pass(target: Target, end_token_ids: list[int], requests: Sequence[dict[str, Any]]) -> int:
    """Samples the requests and returns the number of sampled tokens."""
    arguments = engine_arguments(target)
    config = vLLMEngineProcessorConfig(
        model_source=model_location(target.model),
        engine_kwargs=arguments,
        batch_size=64,
        max_concurrent_batches=8,
        concurrency=1,
        # By default it requests a GPU, and waits for one for ever.
        placement_group_config=None
        if "GPU" in ray.cluster_resources()
        else {"bundle_per_worker": {"CPU": 1}},
        log_engine_metrics=False,
        chat_template_stage=False,
        tokenize_stage=False,
        detokenize_stage=False,
    )
    processor = build_processor(config, preprocess=_request, postprocess=_num_tokens)
    rows = [
        {"prompt_ids": request["prompt_ids"], "index": index, "stop": end_token_ids, **request["sampling"]}
        for request in requests
        for index in range(request["sampling"]["num_samples"])
    ]
    return int(processor(ray.data.from_items(rows)).sum("num_tokens"))


def _request(row: dict[str, Any]) -> dict[str, Any]:
    params = {
        "temperature": row["temperature"],
        "max_tokens": row["max_tokens"],
        "seed": row["seed"] + row["index"],
        "stop_token_ids": list(row["stop"]),
        "detokenize": False,
    }
    return {"tokenized_prompt": row["prompt_ids"], "sampling_params": params}


def _num_tokens(row: dict[str, Any]) -> dict[str, Any]:
    return {"num_tokens": row["num_generated_tokens"]}


if __name__ == "__main__":
    main()
