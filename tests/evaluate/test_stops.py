"""A sample ends at the template's end of turn and at every end-of-text id that the model's files name."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from drsft.config import Engine, Prompts, Target
from drsft.policy.prompts import load_prompter, model_location
from drsft.policy.vllm.policy import VLLMPolicy
from drsft.records import Problem, Sampling

pytestmark = pytest.mark.engine


def test_both_stop_tokens_end_a_sample(tmp_path: Path) -> None:
    shutil.copytree(model_location("embedded"), tmp_path / "model")
    target = Target(
        model=str(tmp_path / "model"),
        dtype="float32",
        max_model_len=256,
        prompts=Prompts(plain="{question}", guided="{question}{demonstration}"),
        engine=Engine(max_num_seqs=32, kv_cache_mib=64, enforce_eager=True),
    )
    prompter = load_prompter(target.model, target.prompts)
    # What the model writes in every solution now also ends a text, as <|endoftext|> does for a base model.
    (other_end,) = set(prompter.completion("=")) - {prompter.end_of_turn_id}
    file = tmp_path / "model/generation_config.json"
    options = json.loads(file.read_text())
    file.write_text(json.dumps({**options, "eos_token_id": [*options["eos_token_id"], other_end]}))
    prompter = load_prompter(target.model, target.prompts)

    problem = Problem(
        problem_id="p",
        question="Ann has 43 cups, gets 46, gives 7. How many?",
        demonstration="",
        reference="82",
    )
    sampling = Sampling(num_samples=32, temperature=1.0, max_tokens=64, seed=7)
    with VLLMPolicy(target, prompter) as policy:
        completions = asyncio.run(policy.generate(prompter.plain(problem), sampling))
    ends = {other_end, prompter.end_of_turn_id}
    stopped = [one for one in completions if one.finish_reason == "stop"]
    assert any(one.token_ids[-1] == other_end for one in stopped)
    for one in stopped:
        assert one.token_ids[-1] in ends
        assert not ends & set(one.token_ids[:-1]), "it ends at the first of them"
