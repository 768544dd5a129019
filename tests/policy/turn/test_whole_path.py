"""Families of templates from sampling over training and export to sampling again: equal ids at every join."""

import asyncio
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from drsft.config import Arm, DataView, Engine, Prompts, Sft, Target, Train
from drsft.policy.prompts import Prompter, target_prompter
from drsft.policy.vllm.policy import VLLMPolicy
from drsft.records import Completion, Problem, Sampling
from drsft.storage import LocalStore
from drsft.train import job as training_job
from drsft.train.encode import encode
from drsft.train.job import Job, Training
from drsft.train.loop import train_one
from drsft.train.pack import pack
from drsft.train.world import World
from tests.support.templates import FAMILIES, Family, folder_of
from tests.support.train import RECORDS_SCHEMA

pytestmark = [pytest.mark.engine, pytest.mark.slow]

NAMES = [name for name in FAMILIES if name not in ("no end, and its opener is none", "brackets")]
PROBLEMS = [
    Problem(
        problem_id=f"p{n}",
        question=f"What is {n} + 7?",
        demonstration=f"{n} + 7 = {n + 7}",
        reference=str(n + 7),
    )
    for n in range(3)
]
SEQ_LEN = 128
ARM = Arm(name="sft", objective=Sft())
TRAIN = Train(seq_len=SEQ_LEN, batch_rows=2, micro_batch_rows=1, num_epochs=1, arms=(ARM,))


def save_model(folder: Path, family: Family) -> Target:
    """A random model as wide as the family's tokenizer."""
    folder_of(folder, family)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = Qwen2ForCausalLM(config)
    listed = None if family.listed_ends is None else tokenizer.convert_tokens_to_ids(list(family.listed_ends))
    model.generation_config.eos_token_id = listed or tokenizer.eos_token_id
    model.save_pretrained(folder)
    return target_of(folder, family)


def target_of(folder: Path, family: Family) -> Target:
    return Target(
        model=str(folder),
        dtype="float32",
        max_model_len=256,
        chat_template_kwargs=family.kwargs,
        prompts=Prompts(plain="{question}"),
        engine=Engine(max_num_seqs=4, kv_cache_mib=32, enforce_eager=True),
    )


def sampled(target: Target, prompter: Prompter) -> list[list[Completion]]:
    sampling = Sampling(num_samples=3, temperature=1.0, max_tokens=48, seed=5)

    async def draw(policy: VLLMPolicy) -> list[list[Completion]]:
        return await asyncio.gather(*(policy.generate(prompter.plain(one), sampling) for one in PROBLEMS))

    with VLLMPolicy(target, prompter) as policy:
        return asyncio.run(draw(policy))


@pytest.mark.parametrize("family", [FAMILIES[name] for name in NAMES], ids=NAMES)
def test_ids_are_equal_at_every_join(family: Family, tmp_path: Path) -> None:
    target = save_model(tmp_path / "model", family)
    prompter = target_prompter(target)
    ends = set(prompter.turn.end_token_ids)
    completions = sampled(target, prompter)
    for one in (completion for several in completions for completion in several):
        assert not ends & set(one.token_ids[:-1])
        assert (one.token_ids[-1] in ends) == (one.finish_reason == "stop")
        assert one.text == prompter.answer_text(one.token_ids)

    rows = [
        {
            "problem_id": problem.problem_id,
            "source": "own",
            "prompt_ids": prompter.plain(problem),
            "completion_ids": several[0].token_ids,
            "expert_completion_ids": prompter.completion(problem.demonstration),
        }
        for problem, several in zip(PROBLEMS, completions, strict=True)
    ]
    records = pa.Table.from_pylist(rows, schema=RECORDS_SCHEMA)
    for data, key in ((DataView.EXPERT, "expert_completion_ids"), (DataView.SELF_ONLY, "completion_ids")):
        examples = encode(records, data=data, seq_len=SEQ_LEN).examples
        for example in examples:
            row = next(row for row in rows if row["problem_id"] == example.problem_id)
            num_prompt = len(row["prompt_ids"])
            assert tuple(example.input_ids_T) == (*row["prompt_ids"], *row[key])
            assert example.loss_mask_T.tolist() == [0] * num_prompt + [1] * len(row[key])

    expert = encode(records, data=DataView.EXPERT, seq_len=SEQ_LEN).examples
    training = Training(
        job=Job(arm=ARM, seed=0),
        settings=TRAIN,
        target=training_job.Target(location=target.model, compute_dtype=torch.float32),
        rows=pack(expert, seq_len=SEQ_LEN),
        world=World(),
    )
    train_one(training, store=LocalStore(tmp_path / "run"))

    exported = target_of(tmp_path / "run/export", family)
    again = target_prompter(exported)
    assert again.turn.prompt == prompter.turn.prompt
    assert (again.turn.head, again.turn.tail) == (prompter.turn.head, prompter.turn.tail)
    assert set(again.turn.end_token_ids) == ends
    for problem, row in zip(PROBLEMS, rows, strict=True):
        assert again.plain(problem) == row["prompt_ids"]
        assert again.completion(problem.demonstration) == row["expert_completion_ids"]
    if family.listed_ends is not None or family is FAMILIES["plain"]:  # an engine's start takes seconds
        for one in (completion for several in sampled(exported, again) for completion in several):
            assert (one.token_ids[-1] in ends) == (one.finish_reason == "stop")
