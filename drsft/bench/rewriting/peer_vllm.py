"""The baseline of the rewriting bench: one call of vllm.LLM.generate with all prompts, without code of drsft.

    python -m drsft.bench.rewriting.peer_vllm WORK.json

`WORK.json` is {"target": a Target, "end_token_ids", "prompts": [ids], "requests": [fields of a Sampling]}.
Prints one JSON line {"num_tokens", "seconds"}; the seconds do not include the engine's start.
"""

import json
import sys
import time
from pathlib import Path

from drsft.config import Target
from drsft.policy.prompts import model_location
from drsft.policy.vllm.engine import engine_arguments, sampling_params
from drsft.records import Sampling

__all__: list[str] = []


def main() -> None:
    work = json.loads(Path(sys.argv[1]).read_text())
    target = Target.model_validate(work["target"])
    arguments = engine_arguments(target)
    from vllm import LLM

    engine = LLM(**{**arguments, "model": model_location(target.model)})
    prompts = [{"prompt_token_ids": ids} for ids in work["prompts"]]
    params = [sampling_params(Sampling(**request), work["end_token_ids"]) for request in work["requests"]]
    engine.generate(prompts[:1], params[:1], use_tqdm=False)  # the first request warms the engine up
    started_s = time.monotonic()
    outputs = engine.generate(prompts, params, use_tqdm=False)
    seconds = time.monotonic() - started_s
    num_tokens = sum(len(sample.token_ids) for output in outputs for sample in output.outputs)
    print(json.dumps({"num_tokens": num_tokens, "seconds": seconds}))


if __name__ == "__main__":
    main()
