"""The baseline of the service bench: vLLM's AsyncLLM in this process, one request at a time.

    python -m drsft.bench.serving.peer_vllm_async WORK.json

`WORK.json` is {"target": a Target, "end_token_ids", "prompts": [ids], "requests": [fields of a Sampling]}.
The process prints {"ready": true} once the engine has started. Each line of standard input is an index into
both lists, from 0; the answer to it is one line {"num_tokens", "seconds"}.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from drsft.config import Target
from drsft.policy.prompts import model_location
from drsft.policy.vllm.engine import engine_arguments, sampling_params
from drsft.records import Sampling

__all__: list[str] = []


async def serve(work: dict[str, Any]) -> None:
    target = Target.model_validate(work["target"])
    arguments = engine_arguments(target)
    from vllm import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    engine = AsyncLLM.from_engine_args(AsyncEngineArgs(model=model_location(target.model), **arguments))
    print(json.dumps({"ready": True}), flush=True)
    try:
        while line := await asyncio.to_thread(sys.stdin.readline):
            index = int(line)
            params = sampling_params(Sampling(**work["requests"][index]), work["end_token_ids"])
            prompt = {"prompt_token_ids": work["prompts"][index]}
            started_s = time.perf_counter()
            async for output in engine.generate(prompt, params, request_id=f"{index}-{started_s}"):
                last = output
            seconds = time.perf_counter() - started_s
            num_tokens = sum(len(sample.token_ids) for sample in last.outputs)
            print(json.dumps({"num_tokens": num_tokens, "seconds": seconds}), flush=True)
    finally:
        engine.shutdown()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(Path(sys.argv[1]).read_text())))
