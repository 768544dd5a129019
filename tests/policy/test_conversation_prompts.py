"""Prompts of problems that are conversations, against transformers' own rendering of them."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from drsft.config import Hinted, Prompts, Target
from drsft.errors import ModelError
from drsft.policy.prompts import Prompter, load_prompter, model_location, target_prompter
from drsft.records import Message, Problem
from drsft.rewrite.hinted import hinted_problem, hinted_prompter
from tests.support.templates import FAMILIES, folder_of, model_folder

ASKED, ANSWERED = Message(role="user", content="3 + 4?"), Message(role="assistant", content="It is 7.")
SYSTEM = Message(role="system", content="Be brief.")
PROMPTS = Prompts(
    system="You calculate.",
    plain="{question} Box it.",
    guided="{question} Hint: {demonstration}",
    answered="{question} Answer: {demonstration}",
    rephrased="{question} Say otherwise: {demonstration}",
)
LAST_TURNS = {
    "plain": "And 5 more? Box it.",
    "guided": "And 5 more? Hint: 7 + 5 = 12",
    "answered": "And 5 more? Answer: 7 + 5 = 12",
    "rephrased": "And 5 more? Say otherwise: 7 + 5 = 12",
}


def problem(*earlier: Message) -> Problem:
    return Problem(
        problem_id="p", question="And 5 more?", demonstration="7 + 5 = 12", reference="12", earlier=earlier
    )


@pytest.fixture(params=["ours", "embedded"])
def prompter_and_tokenizer(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Prompter, Any]:
    if request.param == "embedded":
        tokenizer = AutoTokenizer.from_pretrained(model_location("embedded"))
        return load_prompter("embedded", PROMPTS), tokenizer
    model = str(folder_of(tmp_path, FAMILIES["plain"]))
    return target_prompter(Target(model=model, prompts=PROMPTS)), PreTrainedTokenizerFast.from_pretrained(
        model
    )


def rendered(tokenizer: Any, system: str, last: str) -> list[int]:
    turns = [("system", system), ("user", "3 + 4?"), ("assistant", "It is 7."), ("user", last)]
    messages = [{"role": role, "content": content} for role, content in turns]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("form", LAST_TURNS)
def test_a_prompts_ids_are_those_of_the_templates_own_rendering(
    prompter_and_tokenizer: tuple[Prompter, Any], form: str
) -> None:
    prompter, tokenizer = prompter_and_tokenizer
    ids = getattr(prompter, form)(problem(ASKED, ANSWERED))
    assert list(ids) == rendered(tokenizer, "You calculate.", LAST_TURNS[form])


def test_a_conversations_own_system_turn_takes_the_place_of_the_configurations(
    prompter_and_tokenizer: tuple[Prompter, Any],
) -> None:
    prompter, tokenizer = prompter_and_tokenizer
    ids = prompter.plain(problem(SYSTEM, ASKED, ANSWERED))
    assert list(ids) == rendered(tokenizer, "Be brief.", LAST_TURNS["plain"])


def test_a_hinted_context_keeps_its_instructions_above_the_conversations(
    prompter_and_tokenizer: tuple[Prompter, Any],
) -> None:
    prompter, tokenizer = prompter_and_tokenizer
    settings = Hinted(system="Two parts.", prompt="Q: {question} A: {demonstration}")
    hinted = hinted_prompter(settings, prompter)
    last = "Q: And 5 more? A: 7 + 5 = 12"
    for earlier, system in (((), "Two parts."), ((SYSTEM,), "Two parts.\n\nBe brief.")):
        one = hinted_problem(problem(*earlier, ASKED, ANSWERED), settings)
        assert list(hinted.guided(one)) == rendered(tokenizer, system, last)


def test_a_system_turn_that_the_template_leaves_out_is_refused(tmp_path: Path) -> None:
    template = "{% for m in messages %}{% if m.role != 'system' %}{{ m.content }}</s>{% endif %}{% endfor %}"
    prompter = target_prompter(Target(model=str(model_folder(tmp_path, template, markers=()))))
    assert prompter.plain(problem(ASKED, ANSWERED))
    with pytest.raises(ModelError, match="leaves the system turn out"):
        prompter.plain(problem(SYSTEM))
