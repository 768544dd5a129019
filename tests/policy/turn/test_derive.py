"""Every class of chat templates, against transformers' own rendering of the answered conversation."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from drsft.config import Prompts, Target
from drsft.errors import InputError, ModelError
from drsft.policy.prompts import Prompter, target_prompter
from drsft.records import Problem
from tests.support.templates import FAMILIES, Family, folder_of, model_folder

QUESTION, ANSWER, THOUGHT = "What is 3 + 4?", "It is \\boxed{7}, the sum.\n\nSo 7.", "3, then 4 more"
DAY = date(2026, 11, 27)


def prompter_of(folder: Path, family: Family, **settings: Any) -> Prompter:
    return target_prompter(
        Target(
            model=str(folder_of(folder, family)),
            chat_template_kwargs=family.kwargs,
            date=DAY,
            prompts=Prompts(plain="{question}"),
            **settings,
        )
    )


def problem(question: str = QUESTION, demonstration: str = ANSWER) -> Problem:
    return Problem(problem_id="p", question=question, demonstration=demonstration, reference="7")


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


def rendered(folder: Path, family: Family, *answers: dict[str, Any], asks: bool = False) -> str:
    """What transformers makes of it, with today's date written as the day of the tests."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    messages: list[dict[str, Any]] = [{"role": "user", "content": QUESTION}]
    messages += [{"role": "assistant", **answer} for answer in answers]
    return str(
        tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=asks,
            strftime_now=DAY.strftime,
            **family.kwargs,
        )
    )


def test_the_turn_is_the_one_that_the_family_needs(family: Family, tmp_path: Path) -> None:
    turn = prompter_of(tmp_path, family).turn
    ids = PreTrainedTokenizerFast.from_pretrained(tmp_path).convert_tokens_to_ids
    thought = turn.thought and (turn.thought.open, turn.thought.close, turn.thought.is_open_in_prompt)
    assert (turn.head, turn.tail) == (family.head, family.tail)
    assert turn.end_token_ids == tuple(map(ids, family.ends))
    assert thought == family.thought
    assert turn.equals_template == family.equals_template
    assert (turn.differs_because is None) == turn.equals_template


def test_a_completion_has_the_ids_of_the_whole_rendering(family: Family, tmp_path: Path) -> None:
    prompter = prompter_of(tmp_path, family)
    prompt, turn = rendered(tmp_path, family, asks=True), prompter.turn
    whole = f"{prompt}{turn.head}{ANSWER}{turn.tail}"
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    trained = [*prompter.plain(problem()), *prompter.completion(ANSWER)]
    assert tokenizer.decode(trained) == whole
    assert trained == _expected(tokenizer, prompt, whole)
    assert trained[-1] == turn.end_token_ids[0]
    own = rendered(tmp_path, family, {"content": ANSWER})
    if turn.equals_template and family.tail != "<|user|>":  # which opens the next turn
        assert own.startswith(whole)


def _expected(tokenizer: Any, prompt: str, whole: str) -> list[int]:
    """The ids of the whole; where the prompt ends inside a token, those that the model goes on with."""
    whole_ids, prompt_ids, rest_ids = (
        tokenizer(text, add_special_tokens=False)["input_ids"]
        for text in (whole, prompt, whole.removeprefix(prompt))
    )
    is_cut_between = whole_ids[: len(prompt_ids)] == prompt_ids
    return list(whole_ids if is_cut_between else prompt_ids + rest_ids)


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.thought])
def test_a_thought_of_the_solutions_own_is_never_doubled_and_always_closed(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    assert family.thought is not None
    prompter = prompter_of(tmp_path, family)
    opening, closing, is_open = family.thought
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    completions = [
        tokenizer.decode(prompter.completion(f"{first}\n{THOUGHT}\n{last}\n\n{ANSWER}"))
        for first, last in ((opening, closing), ("<think>", "</think>"))
    ]
    assert completions[0] == completions[1]
    is_off = bool(family.kwargs)
    assert completions[0].count(opening) == (0 if is_open or is_off else 1)
    assert completions[0].count(closing) == (0 if is_off else 1)
    assert completions[0].endswith(f"{ANSWER}{family.tail}")
    assert (THOUGHT in completions[0]) != is_off
    with pytest.raises(InputError, match="never closes"):
        prompter.completion(f"<think>\n{THOUGHT}")


@pytest.mark.parametrize("name", ["open thought, kept", "header", "empty thought"])
def test_a_solution_with_a_thought_is_what_the_template_writes(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    prompter = prompter_of(tmp_path, family)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    text = tokenizer.decode(
        [*prompter.plain(problem()), *prompter.completion(f"<think>{THOUGHT}</think>{ANSWER}")]
    )
    answer = {"content": ANSWER, "reasoning_content": THOUGHT, "thinking": THOUGHT}
    assert rendered(tmp_path, family, answer).startswith(text)


def test_sampling_never_stops_at_what_stands_before_an_answer(family: Family, tmp_path: Path) -> None:
    turn = prompter_of(tmp_path, family).turn
    answer = {"content": ANSWER, "reasoning_content": THOUGHT, "thinking": THOUGHT, "reasoning": THOUGHT}
    before = rendered(tmp_path, family, answer).partition(ANSWER)[0].rpartition(QUESTION)[2]
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    if THOUGHT in before:
        behind_thought = before.partition(THOUGHT)[2]
        held = tokenizer(behind_thought, add_special_tokens=False)["input_ids"]
        assert not set(held) & set(turn.end_token_ids)


def test_the_date_is_the_runs_and_told_only_where_it_is_read(tmp_path: Path) -> None:
    dated = prompter_of(tmp_path / "dated", FAMILIES["header"])
    plain = prompter_of(tmp_path / "plain", FAMILIES["plain"])
    assert "Today is 2026-11-27." in dated.turn.prompt
    assert dated.turn.reads_date
    assert not plain.turn.reads_date


REFUSED = {
    "content in parts": (
        "{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}",
        "list of parts",
    ),
    "markers of another tokenizer": (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        "<|im_end|>, which is not a single token",
    ),
    "no assistant": (
        "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}",
        "writes an answer 0 times",
    ),
    "another header": (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}</s>{% endfor %}"
        "{% if add_generation_prompt %}bot:{% endif %}",
        "ends the generation prompt with 'bot:' and begins an answered turn with 'assistant:'",
    ),
    "another question": (
        "{% for m in messages %}{% if loop.last %}last {% endif %}{{ m.content }}</s>{% endfor %}",
        "renders the question in another way once it is answered",
    ),
    "syntax": ("{% for m in messages %}{{ m.content }", "fails: "),
    "none": (None, "no chat template; set target.chat_template: FILE"),
}


@pytest.mark.parametrize(("template", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_derived_is_refused_in_one_line(
    template: str | None, words: str, tmp_path: Path
) -> None:
    folder = model_folder(tmp_path, template, markers=())
    with pytest.raises(ModelError) as refused:
        target_prompter(Target(model=str(folder)))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_model_trained_with_spelt_markers_is_taken_when_the_user_says_so(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}</s>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    )
    folder = str(model_folder(tmp_path, template, markers=()))
    with pytest.raises(ModelError, match=r"target\.spelt_markers"):
        target_prompter(Target(model=folder))
    assert target_prompter(Target(model=folder, spelt_markers=True)).turn.tail == "</s>"


def test_thoughts_that_cannot_be_read_off_are_named(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}</s>{% endfor %}"
        "{% if add_generation_prompt %}assistant: Steps:\n{% endif %}"
    )
    folder = str(model_folder(tmp_path, template, markers=("[FINAL]",)))
    with pytest.raises(ModelError, match=r"target\.thought"):
        target_prompter(Target(model=folder))
    named = target_prompter(Target(model=folder, thought={"open": "Steps:", "close": "[FINAL]"}))
    assert named.turn.head == "\n[FINAL]\n\n"
    assert named.turn.thought is not None
    assert named.turn.thought.is_open_in_prompt


def test_a_system_turn_that_the_template_refuses_is_named(tmp_path: Path) -> None:
    template = FAMILIES["plain"].template.replace(
        "<|sys|>{{ m.content }}", "{{ raise_exception('no system') }}"
    )
    folder = str(model_folder(tmp_path, template, markers=FAMILIES["plain"].markers))
    assert target_prompter(Target(model=folder)).turn.system_refusal is not None
    with pytest.raises(ModelError, match=r"target\.prompts\.system: .*no system"):
        target_prompter(Target(model=folder, prompts=Prompts(system="Be brief.")))


def test_a_variable_that_the_template_does_not_read_is_a_mistake(tmp_path: Path) -> None:
    folder = str(folder_of(tmp_path, FAMILIES["empty thought"]))
    with pytest.raises(ModelError, match=r"'enable_thinkng'.*it reads enable_thinking"):
        target_prompter(Target(model=folder, chat_template_kwargs={"enable_thinkng": False}))


def test_a_template_that_rewrites_an_answer_says_so(tmp_path: Path) -> None:
    for name, filtered in {
        "case": "m.content | lower",
        "quotes": "m.content | replace('\"', '')",
        "stars": "m.content | replace('**', '')",
        "letters": "m.content.encode('ascii', 'ignore').decode()",
    }.items():
        template = FAMILIES["plain"].template.replace(
            "<|a|>\n{{ m.content }}", f"<|a|>\n{{{{ {filtered} }}}}"
        )
        folder = str(model_folder(tmp_path / name, template, markers=FAMILIES["plain"].markers))
        assert "rewrites" in str(target_prompter(Target(model=folder)).turn.differs_because), name


def test_a_solutions_own_think_tags_are_read_where_the_models_thoughts_close_otherwise(
    tmp_path: Path,
) -> None:
    template = FAMILIES["end that closes thoughts, too"].template.replace("<|think|>", "<think>")
    folder = model_folder(
        tmp_path, template, markers=("<|begin|>", "<|content|>", "<|end|>", "<think>", "<|sys|>")
    )
    prompter = target_prompter(Target(model=str(folder)))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    text = tokenizer.decode(prompter.completion(f"<think>{THOUGHT}</think>{ANSWER}"))
    assert text == f"<think>{THOUGHT}<|end|><|begin|>assistant<|content|>{ANSWER}</s>"


MORE_THOUGHTS = {  # the assistant's turn, the prompt; open, close and head; a completion with a thought
    "a header, and thoughts left out": (
        "<|a|><|r|>{{ m.content }}<|e|>",
        "<|a|><think>",
        ("<think>", "</think>", "</think><|r|>"),
        f"{THOUGHT}</think><|r|>{ANSWER}<|e|>",
    ),
    "a channel that the prompt opens": (
        "<|a|>{% if m.thinking %}<|r|>analysis<|u|>{{ m.thinking }}<|e|><|a|>{% endif %}"
        "<|r|>final<|u|>{{ m.content }}</s>",
        "<|a|><|r|>analysis<|u|>",
        ("<|r|>analysis<|u|>", "<|e|><|a|><|r|>final<|u|>", "<|e|><|a|><|r|>final<|u|>"),
        f"{THOUGHT}<|e|><|a|><|r|>final<|u|>{ANSWER}</s>",
    ),
    "headings instead of tags": (
        "<|a|>{% if m.reasoning %}# Draft\n{{ m.reasoning }}\n# Final\n{% endif %}{{ m.content }}<|e|>",
        "<|a|>",
        ("# Draft", "# Final", ""),
        f"# Draft\n{THOUGHT}\n# Final\n{ANSWER}<|e|>",
    ),
    "a field of the template's own": (
        "<|a|>{% if m.cot %}<begin_of_thought>{{ m.cot }}<end_of_thought>{% endif %}{{ m.content }}<|e|>",
        "<|a|>",
        ("<begin_of_thought>", "<end_of_thought>", ""),
        f"<begin_of_thought>\n{THOUGHT}\n<end_of_thought>\n\n{ANSWER}<|e|>",
    ),
    "a thought that the prompt writes": (
        "<|a|>{% if m.reasoning %}<think>{{ m.reasoning }}</think>{% endif %}{{ m.content }}<|e|>",
        "<|a|><think>no budget</think>",
        ("<think>", "</think>", ""),
        f"{ANSWER}<|e|>",
    ),
}
MORE_MARKERS = (
    *("<|u|>", "<|a|>", "<|e|>", "<|r|>"),
    *("<think>", "</think>", "<begin_of_thought>", "<end_of_thought>"),
)


def _own_turns(assistant: str, prompt: str) -> str:
    return (
        "{% for m in messages %}{% if m.role == 'assistant' %}"
        f"{assistant}{{% else %}}<|u|>{{{{ m.content }}}}<|e|>{{% endif %}}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{prompt}{{% endif %}}"
    )


@pytest.mark.parametrize(
    ("assistant", "prompt", "marks", "completion"), MORE_THOUGHTS.values(), ids=MORE_THOUGHTS
)
def test_thoughts_are_read_in_whatever_form_the_template_writes_them(
    assistant: str, prompt: str, marks: tuple[str, str, str], completion: str, tmp_path: Path
) -> None:
    folder = model_folder(tmp_path, _own_turns(assistant, prompt), markers=MORE_MARKERS)
    prompter = target_prompter(Target(model=str(folder)))
    thought = prompter.turn.thought
    assert thought is not None
    assert (thought.open, thought.close, prompter.turn.head) == marks
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    text = tokenizer.decode(prompter.completion(f"<think>{THOUGHT}</think>{ANSWER}"))
    assert text == completion


@pytest.mark.parametrize("opened", ["", "<|r|>"])
def test_one_marker_for_both_ends_of_a_thought_is_refused(opened: str, tmp_path: Path) -> None:
    template = _own_turns(
        "<|a|>{% if m.reasoning %}<|r|>{{ m.reasoning }}<|r|>{% endif %}{{ m.content }}<|e|>",
        f"<|a|>{opened}",
    )
    folder = str(model_folder(tmp_path, template, markers=MORE_MARKERS))
    with pytest.raises(ModelError, match=r"opens and closes a thought with the same <\|r\|>"):
        target_prompter(Target(model=folder))


def test_a_pair_that_the_template_cuts_out_by_code_is_the_thoughts(tmp_path: Path) -> None:
    """As Gemma 4 does: answers are split at the closing marker, and each part at the opening one."""
    cut = (
        "{% macro strip_thinking(text) %}{% set kept = namespace(text='') %}"
        "{% for part in text.split('<channel|>') %}"
        "{% set kept.text = kept.text + part.split('<|channel>')[0] %}{% endfor %}"
        "{{ kept.text | trim }}{% endmacro %}"
    )
    template = cut + _own_turns("<|a|>{{ strip_thinking(m.content) }}<|e|>", "<|a|>")
    markers = (*MORE_MARKERS, "<|channel>", "<channel|>")
    prompter = target_prompter(Target(model=str(model_folder(tmp_path, template, markers=markers))))
    thought = prompter.turn.thought
    assert thought is not None
    assert (thought.open, thought.close) == ("<|channel>", "<channel|>")
    sampled = prompter.completion(f"<think>{THOUGHT}</think>{ANSWER}")
    answer, read = prompter.read(sampled)
    assert answer == ANSWER
    assert read is not None
    assert THOUGHT in read.text
