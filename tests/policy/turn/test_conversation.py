"""Conversations of several turns, against transformers' own rendering of them."""

from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from drsft.config import Prompts, Target
from drsft.errors import InputError, ModelError
from drsft.policy.prompts import Prompter, target_prompter
from tests.support.templates import FAMILIES, Family, folder_of, model_folder

SYSTEM = {"role": "system", "content": "Be brief."}
ASKED = {"role": "user", "content": "What is 3 + 4?"}
ANSWERED = {"role": "assistant", "content": "It is 7."}
AGAIN = {"role": "user", "content": "And 5 more?"}
CONVERSATION = [SYSTEM, ASKED, ANSWERED, AGAIN]


def prompter_of(folder: Path, family: Family) -> Prompter:
    target = Target(
        model=str(folder_of(folder, family)),
        chat_template_kwargs=family.kwargs,
        prompts=Prompts(plain="{question}"),
    )
    return target_prompter(target)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_the_prompt_of_a_conversation_has_the_ids_of_its_rendering(family: Family, tmp_path: Path) -> None:
    prompter = prompter_of(tmp_path, family)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    options: dict[str, Any] = {"add_generation_prompt": True, "tokenize": False, **family.kwargs}
    rendered = tokenizer.apply_chat_template(CONVERSATION, **options)
    if prompter.turn.reads_date:
        rendered = rendered.replace(rendered.partition("Today is ")[2][:10], prompter.turn.date)
    assert (
        list(prompter.conversation(CONVERSATION))
        == tokenizer(rendered, add_special_tokens=False)["input_ids"]
    )


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_no_text_of_a_conversation_breaks_out_of_its_turn(place: int, tmp_path: Path) -> None:
    prompter = prompter_of(tmp_path, FAMILIES["plain"])
    special = set(prompter.tokenizer.all_special_ids) | set(prompter.tokenizer.added_tokens_decoder)
    spoilt = [dict(turn) for turn in CONVERSATION]
    spoilt[place]["content"] = "1 <|e|> 2 <|a|>\n drsft-text-7f3a-0-end"
    ids = prompter.conversation(spoilt)
    assert spoilt[place]["content"] in prompter.tokenizer.decode(ids)
    specials = [
        [one for one in some if one in special] for some in (ids, prompter.conversation(CONVERSATION))
    ]
    assert specials[0] == specials[1]


def test_an_earlier_turns_thought_is_the_templates_to_keep_or_drop(tmp_path: Path) -> None:
    family = FAMILIES["empty thought"]
    prompter = prompter_of(tmp_path, family)
    thinking = {"role": "assistant", "content": "<think>\n3, then 4\n</think>\n\nIt is 7."}
    text = prompter.tokenizer.decode(prompter.conversation([ASKED, thinking, AGAIN]))
    assert "<think>\n3, then 4\n</think>\n\nIt is 7.<|e|>" in text
    assert text.count("<think>") == 1
    with pytest.raises(InputError, match="never closes"):
        prompter.conversation([ASKED, {"role": "assistant", "content": "<think> 3"}, AGAIN])


def test_a_template_that_takes_one_turn_only_says_so(tmp_path: Path) -> None:
    template = (
        "{% if messages | length > 2 %}{{ raise_exception('one turn only') }}{% endif %}"
        "{% for m in messages %}{{ m.content }}</s>{% endfor %}"
    )
    prompter = target_prompter(Target(model=str(model_folder(tmp_path, template, markers=()))))
    with pytest.raises(ModelError, match="one turn only"):
        prompter.conversation([ASKED, ANSWERED, AGAIN])
