"""TRL's SFTTrainer makes the same ids and mask of the export's messages as training here does.

The template marks the assistant's turn with {% generation %}. TRL is no dependency of drsft; the tests run
where it is installed (trl and accelerate).
"""

from pathlib import Path
from typing import Any

import pytest

from drsft.config import Prompts, Target
from drsft.policy.prompts import target_prompter
from drsft.records import Problem, Record, Source
from drsft.rewrite.export import messages_table
from tests.policy.turn.test_whole_path import save_model
from tests.support.templates import FAMILIES, Family

trl = pytest.importorskip("trl", reason="trl is missing: pip install trl accelerate")
datasets = pytest.importorskip("datasets", reason="datasets is missing: pip install 'drsft[hub]'")

pytestmark = pytest.mark.services

PROMPTS = Prompts(plain="{question}")
# The template's text of a turn, and the same with the part that the model writes marked.
_END = "{% endgeneration %}{{ '\n' }}"  # a line break in the source behind a tag is none
_RETURN = "{% if loop.last and not add_generation_prompt %}<|return|>{% else %}<|end|>{% endif %}"
_THOUGHT = "<think>\n{{ m.reasoning_content or '' }}\n</think>\n\n{{ m.content }}<|e|>"
MARKED = {
    "plain": ("<|a|>\n{{ m.content }}<|e|>\n", f"<|a|>\n{{% generation %}}{{{{ m.content }}}}<|e|>{_END}"),
    "header": (
        f"<|channel|>final<|message|>{{{{ m.content }}}}{_RETURN}",
        f"{{% generation %}}<|channel|>final<|message|>{{{{ m.content }}}}{_RETURN}{{% endgeneration %}}",
    ),
    "empty thought": (f"{_THOUGHT}\n", f"{{% generation %}}{_THOUGHT}{_END}"),
    "several ends": (
        "<|r|>{{ m.content }}<|/r|><|e|>",
        "{% generation %}<|r|>{{ m.content }}<|/r|><|e|>{% endgeneration %}",
    ),
}


def record_of(target: Target) -> Record:
    prompter = target_prompter(target)
    problem = Problem(
        problem_id="p", question="What is 3 + 4?", demonstration="It is 7.\n\nSo 7.", reference="7"
    )
    return Record(
        problem=problem,
        source=Source.EXPERT,
        prompt_ids=prompter.plain(problem),
        completion_ids=prompter.completion(problem.demonstration),
        text=problem.demonstration,
        behaviour_logprobs_T=None,
        attempts=(),
    )


@pytest.mark.parametrize("name", MARKED)
def test_trl_makes_the_same_ids_and_mask(name: str, tmp_path: Path) -> None:
    plain, marked = MARKED[name]
    family: Family = FAMILIES[name]
    target = save_model(tmp_path / "model", family)
    record = record_of(target)
    assert plain in family.template
    (tmp_path / "model/chat_template.jinja").write_text(family.template.replace(plain, marked))
    assert record_of(target) == record, "the marks change nothing"

    rows: Any = messages_table([record], PROMPTS)[0].to_pylist()
    trainer = trl.SFTTrainer(
        model=target.model,
        args=trl.SFTConfig(
            output_dir=str(tmp_path / "trained"),
            assistant_only_loss=True,
            max_length=256,
            report_to="none",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
        ),
        train_dataset=datasets.Dataset.from_list([{"messages": rows[0]["messages"]}]),
    )
    (row,) = trainer.train_dataset
    ids, mask = row["input_ids"], [int(label != -100) for label in row["labels"]]
    trained = [*record.prompt_ids, *record.completion_ids]
    assert ids[: len(trained)] == trained
    assert mask[: len(trained)] == [0] * len(record.prompt_ids) + [1] * len(record.completion_ids)
    assert not any(mask[len(trained) :])  # what the template writes behind the end
