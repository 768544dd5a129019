"""Real trainers read the exports: TRL trains the embedded model on messages and on preference pairs.

TRL is no dependency of drsft; the tests run where it is installed (trl and accelerate).
"""

from pathlib import Path
from typing import Any

import pytest

from drsft.config import Prompts
from drsft.policy.prompts import load_prompter, model_location
from drsft.records import (
    Attempt,
    Completion,
    FinishReason,
    Outcome,
    Phase,
    Problem,
    Record,
    Rollout,
    Source,
    Verdict,
)
from drsft.rewrite.export import messages_table, pairs_table
from drsft.storage import table_bytes

trl = pytest.importorskip("trl", reason="trl is missing: pip install trl accelerate")
datasets = pytest.importorskip("datasets", reason="datasets is missing: pip install 'drsft[hub]'")

pytestmark = pytest.mark.services

PROMPTS = Prompts(plain="{question}", guided="{question} {demonstration}")
NUM_STEPS = 2


def record(number: int) -> Record:
    prompter = load_prompter("embedded", PROMPTS)

    def attempt(index: int, answer: int, outcome: Outcome) -> Attempt:
        text = f"{number}+3={answer};\\boxed{{{answer}}}"
        ids = prompter.completion(text)
        completion = Completion(
            token_ids=ids, text=text, behaviour_logprobs_T=(-0.1,) * len(ids), finish_reason=FinishReason.STOP
        )
        rollout = Rollout(
            phase=Phase.SELF_ALIGN, sample_index=index, seed=index, prompt_hash="h", completion=completion
        )
        return Attempt(rollout=rollout, verdict=Verdict(outcome=outcome, reason="test"))

    right = attempt(0, number + 3, Outcome.CORRECT)
    problem = Problem(
        problem_id=f"p{number}",
        question=f"Ann has {number} cards, finds 3. How many cards are left?",
        demonstration="-",
        reference=str(number + 3),
    )
    return Record(
        problem=problem,
        source=Source.OWN,
        prompt_ids=prompter.plain(problem),
        completion_ids=right.rollout.completion.token_ids,
        text=right.rollout.completion.text,
        behaviour_logprobs_T=right.rollout.completion.behaviour_logprobs_T,
        attempts=(right, attempt(1, number + 4, Outcome.WRONG)),
    )


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return [record(number) for number in range(1, 9)]


def opened(table: Any, folder: Path) -> Any:
    """The export as a user opens it: from its Parquet file."""
    path = folder / "export.parquet"
    path.write_bytes(table_bytes(table))
    return datasets.load_dataset(
        "parquet", data_files=str(path), split="train", cache_dir=str(folder / "cache")
    )


def arguments(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder / "trained"),
        "max_steps": NUM_STEPS,
        "per_device_train_batch_size": 2,
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "max_length": 128,
    }


def losses(trainer: Any) -> list[float]:
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_sft_trainer_trains_on_exported_messages(records: list[Record], tmp_path: Path) -> None:
    dataset = opened(messages_table(records, PROMPTS)[0], tmp_path)
    trainer = trl.SFTTrainer(
        model=model_location("embedded"), args=trl.SFTConfig(**arguments(tmp_path)), train_dataset=dataset
    )
    assert len(losses(trainer)) == NUM_STEPS
    trained_on = trainer.processing_class.decode(trainer.train_dataset[0]["input_ids"])
    assert records[0].problem.question in trained_on
    assert records[0].text in trained_on


def test_dpo_trainer_trains_on_exported_pairs(records: list[Record], tmp_path: Path) -> None:
    dataset = opened(pairs_table(records, PROMPTS, run_seed=0)[0], tmp_path)
    assert len(dataset) == len(records)
    trainer = trl.DPOTrainer(
        model=model_location("embedded"), args=trl.DPOConfig(**arguments(tmp_path)), train_dataset=dataset
    )
    first, _ = losses(trainer)
    assert first == pytest.approx(0.6931, abs=1e-3), "ln 2: the policy starts as its own reference"
