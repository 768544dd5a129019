"""One engine with one thread, one with two, and two with one each: tokens/s and memory on a CPU.

    python -m tests.studies.engine_threads MODEL [--dtype bfloat16] [--samples 32] [--max-tokens 48]

Engines are started first and kept; the three settings then take turns in each round, with the same number of
samples together. On a machine that others use, give the process priority (`chrt -r 1` where that is allowed):
threads that wait for each other lose far more than their share of the time to whoever interrupts one.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from drsft.config import Engine, Target
from drsft.policy.prompts import load_prompter
from drsft.policy.vllm.policy import VLLMPolicy
from drsft.records import Sampling

QUESTION = (
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How many "
    "clips did Natalia sell altogether in April and May?\nPlease reason step by step."
)
NUM_SAMPLES = 4  # of one request
CACHE_MIB = 768


def sample_when_asked(options: argparse.Namespace) -> None:
    """An engine's process: for each line of stdin, a number of samples, prints its tokens and peak memory."""
    engine = Engine(max_num_seqs=32, kv_cache_mib=CACHE_MIB, enforce_eager=True)
    target = Target(model=options.model, dtype=options.dtype, max_model_len=1024, engine=engine)
    prompter = load_prompter(target.model, target.prompts)
    prompt_ids = prompter.completion(QUESTION)

    async def generate(policy: VLLMPolicy, num_samples: int, max_tokens: int) -> int:
        asked = [
            policy.generate(
                prompt_ids,
                Sampling(num_samples=NUM_SAMPLES, temperature=1.0, max_tokens=max_tokens, seed=seed),
            )
            for seed in range(0, num_samples, NUM_SAMPLES)
        ]
        return sum(len(one.token_ids) for answers in await asyncio.gather(*asked) for one in answers)

    with VLLMPolicy(target, prompter) as policy:
        asyncio.run(generate(policy, 8, 8))
        print(json.dumps("ready"), flush=True)
        for line in sys.stdin:
            num_tokens = asyncio.run(generate(policy, int(line), options.max_tokens))
            with open("/proc/self/status") as status:
                peak_kib = next(int(one.split()[1]) for one in status if one.startswith("VmHWM"))
            print(json.dumps([num_tokens, peak_kib >> 10]), flush=True)


def start(options: argparse.Namespace, num_threads: int) -> subprocess.Popen[str]:
    side = subprocess.Popen(
        [sys.executable, "-m", "tests.studies.engine_threads", *sys.argv[1:], "--side"],
        env={**os.environ, "OMP_NUM_THREADS": str(num_threads)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    answer(side)
    return side


def answer(side: subprocess.Popen[str]) -> Any:
    assert side.stdout is not None
    return json.loads(next(line for line in side.stdout if line.startswith(("[", '"'))))


def ask(side: subprocess.Popen[str], num_samples: int) -> tuple[int, int]:
    assert side.stdin is not None
    side.stdin.write(f"{num_samples}\n")
    side.stdin.flush()
    num_tokens, peak_mib = answer(side)
    return num_tokens, peak_mib


def measure(options: argparse.Namespace) -> None:
    one, two_threads, other = (start(options, num) for num in (1, 2, 1))
    settings = {"1 x 1": [one], "1 x 2": [two_threads], "2 x 1": [one, other]}
    with ThreadPoolExecutor(2) as pool:
        for _ in range(options.rounds):
            rates, peaks = {}, {}
            for name, sides in settings.items():
                began_s = time.perf_counter()
                found = list(pool.map(ask, sides, [options.samples // len(sides)] * len(sides)))
                rates[name] = sum(tokens for tokens, _ in found) / (time.perf_counter() - began_s)
                peaks[name] = [peak for _, peak in found]
            print(
                "  ".join(
                    f"{name}: {rate:,.0f} tokens/s ({rate / rates['1 x 1']:.2f}), {peaks[name]} MiB"
                    for name, rate in rates.items()
                ),
                flush=True,
            )
    for side in (one, two_threads, other):
        assert side.stdin is not None
        side.stdin.close()
        side.wait()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--max-tokens", type=int, default=48)
    parser.add_argument("--side", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    (sample_when_asked if options.side else measure)(options)


if __name__ == "__main__":
    main()
