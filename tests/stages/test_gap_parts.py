"""The gap stage's scores tell thoughts from answers by the run's turn, on real forwards of a tiny model."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from drsft.config import Prompts, RunConfig, Target
from drsft.gap.scored_texts import Role, Text, texts_to_table
from drsft.policy.prompts import Prompter
from drsft.records import Problem
from drsft.run.layout import GapFolder
from drsft.run.shards import ShardSet
from drsft.stages.gap import Scoring, ShardScorer
from drsft.stages.turn import run_prompter
from drsft.storage import LocalStore
from drsft.train.model import load_model
from tests.support.templates import FAMILIES, folder_of

FOLDER = GapFolder("gap/mine")


def save_model(folder: Path, vocabulary: int) -> None:
    torch.manual_seed(5)
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        initializer_range=0.3,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)


def slow_sums(model_path: str, text: Text, length: int) -> tuple[float, float]:
    """Token by token from full logits."""
    ids_T = torch.tensor([*text.prompt_ids, *text.completion_ids])
    with torch.no_grad():
        logp_TV = load_model(model_path)(ids_T[None]).logits[0].double().log_softmax(-1)
    logprob = phi = 0.0
    for place in range(len(text.prompt_ids), len(text.prompt_ids) + length):
        at_V = logp_TV[place - 1]
        logprob += float(at_V[ids_T[place]])
        phi += float(at_V[ids_T[place]] - (at_V.exp() * at_V).sum())
    return logprob, phi


def texts_of(prompter: Prompter) -> list[Text]:
    prompt = prompter.plain(Problem(problem_id="p", question="3 + 4?", demonstration="", reference="7"))
    thinking = prompter.written("It is 7.", "Maybe 5? No.")
    completions = (thinking, prompter.completion("So 7."))
    return [
        Text(row_id=str(n), role=Role.KEPT, source="own", prompt_ids=prompt, completion_ids=ids)
        for n, ids in enumerate(completions)
    ]


@pytest.mark.parametrize("family", ["open thought, kept", "empty thought", "brackets", "plain"])
def test_scores_hold_the_thoughts_length_and_sums(family: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", FAMILIES[family])
    target = Target(model=str(folder), prompts=Prompts(plain="{question}"))
    store = LocalStore(tmp_path / "run")
    prompter = run_prompter(target, store)
    save_model(folder, len(prompter.tokenizer))
    texts = texts_of(prompter)
    scoring = Scoring(model=target.model, texts=FOLDER.texts, folder=FOLDER)
    ShardSet(store, scoring.texts).commit("00000", texts_to_table(texts))
    config = RunConfig.model_validate(
        {"name": "n", "storage": str(tmp_path), "problems": {"path": "p.jsonl"}, "target": target}
    )
    ShardScorer(config.model_dump_json(), store.url, scoring, None)({"shard": np.array(["00000"])})
    found = scoring.scores(store).table("00000").to_pylist()
    for text, row in zip(texts, found, strict=True):
        marks, whole = prompter.turn.thought, prompter.tokenizer.decode(text.completion_ids)
        if marks is None:
            assert row["num_thought_tokens"] is None
            continue
        length, close = row["num_thought_tokens"], marks.close
        thought = prompter.tokenizer.decode(text.completion_ids[:length])
        assert thought == (whole[: whole.rindex(close) + len(close)] if close in whole else "")
        sums = row["sum_thought_logprob"], row["sum_thought_phi"]
        assert sums == pytest.approx(slow_sums(target.model, text, length), abs=1e-3)
