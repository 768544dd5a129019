"""What every trial runs: a small rewriting whose policy is slow, keeps a journal and repeats itself."""

import asyncio
import json
import os
import random
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drsft.config import Target
from drsft.policy.fake import FakePolicy, text_completion
from drsft.policy.prompts import Prompter
from drsft.records import Completion

__all__ = ["NUM_SHARDS", "SHARDS_IN_FLIGHT", "Journal", "journalling_policy", "step_clock", "write_workload"]

NUM_SHARDS, SHARD_SIZE = 12, 12
SHARDS_IN_FLIGHT = 2  # of an actor
RIGHT_SHARE = 0.2  # of samples
LATENCY_S = (0.15, 0.6)  # of a request

CONFIG = """
name: faults
problems: {{path: "{problems}", shard_size: {shard_size}}}
target:
  model: embedded
  dtype: float32
  max_model_len: 512
  prompts: {{plain: "{{question}}", guided: "{{question}}\\nReference solution: {{demonstration}}"}}
  engine: {{max_num_seqs: 64, kv_cache_mib: 64, enforce_eager: true}}
rewrite:
  self_align: {{num_samples: 4, wave_size: 2, max_tokens: 64}}
  guided: {{num_samples: 4, wave_size: 4, max_tokens: 64}}
  grounding: {{min_equations: 0, derives_answer: false}} # these texts calculate nothing
train:
  arms: [{{name: dr+dft}}]
  seq_len: 256
  batch_rows: 4
  micro_batch_rows: 2
  num_epochs: 4
  checkpoint_every_steps: 4
resources:
  shards_in_flight_per_actor: {shards_in_flight}
  cpus_per_actor: 1
  train_workers: 2
  drain_s: 10
  stalled_after_s: 60
"""


def write_workload(folder: Path) -> Path:
    """The problems and the configuration of all trials, thus of one fingerprint; the latter's path."""
    folder.mkdir(parents=True, exist_ok=True)
    problems, config = folder / "problems.jsonl", folder / "config.yaml"
    rows = [
        {
            "problem": f"Cut {n + 2} metres into 7 parts. How long is one? (problem {n})",
            "solution": f"Each is {n + 2} by 7. Therefore the result is \\boxed{{{_answer(n)}}}.",
            "answer": _answer(n),  # no plain number: a verifier's process has to judge it
        }
        for n in range(NUM_SHARDS * SHARD_SIZE)
    ]
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config.write_text(
        CONFIG.format(problems=problems, shard_size=SHARD_SIZE, shards_in_flight=SHARDS_IN_FLIGHT)
    )
    return config


def _answer(number: int) -> str:
    return f"\\frac{{{7 * number + 15}}}{{7}}"


@dataclass(frozen=True, slots=True)
class Journal:
    """A file to which the policies of all actors append a line for everything that they are asked."""

    path: Path

    def actors(self) -> list[int]:
        """Process numbers, oldest first."""
        return [int(line.split()[1]) for line in self._lines() if line.startswith("actor ")]

    def shards_redone(self) -> int:
        """Shards of which some sample was drawn more than once."""
        drawn: Counter[tuple[int, str]] = Counter()
        for line in self._lines():
            if line.startswith("sample "):
                _, number, seed = line.split()
                drawn[int(number) // SHARD_SIZE, seed] += 1
        return len({shard for (shard, _), count in drawn.items() if count > 1})

    def _lines(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []


def step_clock(step_s: float, *, after_s: float) -> None:
    """time.time() jumps by `step_s` once `after_s` seconds have passed; time.monotonic() does not."""
    true_time, jumps_at = time.time, time.monotonic() + after_s

    def stepped() -> float:
        return true_time() + (step_s if time.monotonic() >= jumps_at else 0.0)

    time.time = stepped


def journalling_policy(
    target: Target, prompter: Prompter, *, journal: Path, clock_s: float = 0.0
) -> FakePolicy:
    """Answers by the seed alone, after a time that depends on nothing."""
    if clock_s:
        step_clock(clock_s, after_s=random.uniform(0, 2))
    file = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(file, f"actor {os.getpid()}\n".encode())
    latencies = random.Random()

    def answer(prompt_ids: Sequence[int], seed: int) -> Completion:
        found = re.search(r"problem\s*((?:\d\s*)+)\)", prompter.decode(prompt_ids))
        assert found is not None, prompter.decode(prompt_ids)
        number = int("".join(found[1].split()))
        os.write(file, f"sample {number} {seed}\n".encode())
        draws = random.Random(seed)
        is_right = draws.random() < RIGHT_SHARE
        text = _answer(number) if is_right else _answer(number + 1 + draws.randrange(5))
        return text_completion(f"So it is \\boxed{{{text}}}.")

    async def serve(completions: Sequence[Completion]) -> None:
        await asyncio.sleep(latencies.uniform(*LATENCY_S))

    return FakePolicy(answer, serve=serve)
