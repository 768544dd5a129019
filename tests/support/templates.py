"""Small chat templates of our own, one for each class of real ones, and model folders made of them."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

__all__ = ["FAMILIES", "Family", "folder_of", "model_folder"]

MERGES = (("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("i", "n"), ("e", "r"), ("d", "r"), ("Ċ", "Ċ"), ("Ġ", "7"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A template, the markers that are single tokens, and what the turn derived from it has to be."""

    template: str
    markers: tuple[str, ...]
    eos: str = "</s>"
    bos: str = "<s>"
    listed_ends: tuple[str, ...] | None = None  # generation_config.json
    kwargs: dict[str, Any] = field(default_factory=dict)
    head: str = ""
    tail: str = ""
    ends: tuple[str, ...] = ()
    thought: tuple[str, str, bool] | None = None  # open, close, open in the prompt
    equals_template: bool = True


def _turns(user: str, assistant: str, prompt: str, before: str = "") -> str:
    """A template in which every turn stands by itself; `user` and `assistant` may read the message `m`."""
    return (
        f"{before}{{% for m in messages %}}"
        f"{{% if m.role == 'user' %}}{user}"
        f"{{% elif m.role == 'assistant' %}}{assistant}"
        "{% else %}<|sys|>{{ m.content }}{% endif %}{% endfor %}"
        f"{{% if add_generation_prompt %}}{prompt}{{% endif %}}"
    )


_USER = "<|u|>{{ m.content }}<|e|>\n"
_THOUGHT_KEPT = (
    "<|a|>\n<think>\n{{ m.reasoning_content or '' }}\n</think>\n\n{{ m.content }}<|e|>\n"  # of every turn
)
_PROMPT_THAT_CLOSES = (
    "<|a|>\n{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
)

FAMILIES = {
    "plain": Family(
        template=_turns(_USER, "<|a|>\n{{ m.content }}<|e|>\n", "<|a|>\n"),
        markers=("<|u|>", "<|a|>", "<|e|>", "<|sys|>"),
        tail="<|e|>",
        ends=("<|e|>", "</s>"),
    ),
    "open thought, dropped": Family(
        template=_turns(
            _USER, "<|a|>\n{{ m.content.split('</think>')[-1] | trim }}<|e|>\n", "<|a|>\n<think>\n"
        ),
        markers=("<|u|>", "<|a|>", "<|e|>", "<think>", "</think>", "<|sys|>"),
        head="\n</think>\n\n",
        tail="<|e|>",
        ends=("<|e|>", "</s>"),
        thought=("<think>", "</think>", True),
        equals_template=False,
    ),
    "open thought, kept": Family(
        template=_turns(_USER, _THOUGHT_KEPT, "<|a|>\n<think>\n"),
        markers=("<|u|>", "<|a|>", "<|e|>", "<think>", "</think>", "<|sys|>"),
        head="\n</think>\n\n",
        tail="<|e|>",
        ends=("<|e|>", "</s>"),
        thought=("<think>", "</think>", True),
    ),
    "header": Family(
        template=_turns(
            "<|start|>user<|message|>{{ m.content }}<|end|>",
            "{% if m.thinking %}<|start|>assistant<|channel|>analysis<|message|>{{ m.thinking }}<|end|>"
            "{% endif %}"
            "<|start|>assistant<|channel|>final<|message|>{{ m.content }}"
            "{% if loop.last and not add_generation_prompt %}<|return|>{% else %}<|end|>{% endif %}",
            "<|start|>assistant",
            "<|start|>system<|message|>Today is {{ strftime_now('%Y-%m-%d') }}.<|end|>",
        ),
        markers=("<|start|>", "<|message|>", "<|end|>", "<|channel|>", "<|return|>", "<|sys|>"),
        eos="<|return|>",
        listed_ends=("<|return|>", "<|end|>"),
        head="<|channel|>final<|message|>",
        tail="<|return|>",
        ends=("<|return|>",),
        thought=(
            "<|channel|>analysis<|message|>",
            "<|end|><|start|>assistant<|channel|>final<|message|>",
            False,
        ),
    ),
    "empty thought": Family(
        template=_turns(
            _USER,
            _THOUGHT_KEPT,
            _PROMPT_THAT_CLOSES,
        ),
        markers=("<|u|>", "<|a|>", "<|e|>", "<think>", "</think>", "<|sys|>"),
        eos="<|e|>",
        head="<think>\n\n</think>\n\n",
        tail="<|e|>",
        ends=("<|e|>",),
        thought=("<think>", "</think>", False),
    ),
    "thinking switched off": Family(
        template=_turns(
            _USER,
            _THOUGHT_KEPT,
            _PROMPT_THAT_CLOSES,
        ),
        markers=("<|u|>", "<|a|>", "<|e|>", "<think>", "</think>", "<|sys|>"),
        eos="<|e|>",
        kwargs={"enable_thinking": False},
        tail="<|e|>",
        ends=("<|e|>",),
        thought=("<think>", "</think>", False),
    ),
    "white space": Family(
        template=_turns("USER: {{ m.content }} ", "ASSISTANT: {{ m.content }} </s>", "ASSISTANT:"),
        markers=("<|sys|>",),
        head=" ",
        tail=" </s>",
        ends=("</s>",),
    ),
    "no end": Family(
        template=_turns("<|user|>\n{{ m.content }}", "<|assistant|>\n{{ m.content }}", "<|assistant|>\n"),
        markers=("<|user|>", "<|assistant|>", "<|sys|>", "<|endoftext|>"),
        eos="<|endoftext|>",
        listed_ends=("<|endoftext|>", "<|user|>"),
        tail="<|user|>",
        ends=("<|user|>", "<|endoftext|>"),
    ),
    "no end, and its opener is none": Family(
        template=_turns("<|user|>\n{{ m.content }}", "<|assistant|>\n{{ m.content }}", "<|assistant|>\n"),
        markers=("<|user|>", "<|assistant|>", "<|sys|>", "<|endoftext|>"),
        eos="<|endoftext|>",
        listed_ends=("<|endoftext|>",),
        tail="<|endoftext|>",
        ends=("<|endoftext|>",),
        equals_template=False,
    ),
    "several ends": Family(
        template=_turns(
            "<|turn|><|u|>{{ m.content }}<|e|>",
            "<|turn|><|a|><|r|>{{ m.content }}<|/r|><|e|>",
            "<|turn|><|a|>",
        ),
        markers=("<|turn|>", "<|u|>", "<|a|>", "<|r|>", "<|/r|>", "<|e|>", "<|sys|>"),
        eos="<|e|>",
        head="<|r|>",
        tail="<|/r|><|e|>",
        ends=("<|e|>",),
    ),
    "end that closes thoughts, too": Family(
        template=_turns(
            "<|begin|>user<|content|>{{ m.content }}<|end|>",
            "{% if m.reasoning %}<|begin|>assistant<|think|>{{ m.reasoning }}<|end|>{% endif %}"
            "<|begin|>assistant<|content|>{{ m.content }}<|end|>",
            "<|begin|>assistant",
        ),
        markers=("<|begin|>", "<|content|>", "<|end|>", "<|think|>", "<|sys|>"),
        head="<|content|>",
        tail="</s>",
        ends=("</s>",),
        thought=("<|think|>", "<|end|><|begin|>assistant<|content|>", False),
        equals_template=False,
    ),
    "markers of several tokens": Family(
        template=_turns(
            "<|open|>user<|sep|>{{ m.content }}<|close|>user<|sep|><|eom|>",
            "<|open|>assistant<|sep|><|open|>think<|sep|>{{ m.reasoning_content or '' }}<|close|>think<|sep|>"
            "<|open|>response<|sep|>{{ m.content }}<|close|>response<|sep|><|close|>assistant<|sep|><|eom|>",
            "<|open|>assistant<|sep|><|open|>think<|sep|>",
        ),
        markers=("<|open|>", "<|close|>", "<|sep|>", "<|eom|>", "<|sys|>"),
        eos="<|eom|>",
        head="<|close|>think<|sep|><|open|>response<|sep|>",
        tail="<|close|>response<|sep|><|close|>assistant<|sep|><|eom|>",
        ends=("<|eom|>",),
        thought=("<|open|>think<|sep|>", "<|close|>think<|sep|><|open|>response<|sep|>", True),
    ),
    "brackets": Family(
        template=_turns(
            "[INST]{{ m.content }}[/INST]",
            "{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}"
            "{% if p.type == 'thinking' %}[THINK]{{ p.thinking }}[/THINK]{% else %}{{ p.text }}{% endif %}"
            "{% endfor %}{% endif %}</s>",
            "",
            "{{ bos_token }}",
        ),
        markers=("[INST]", "[/INST]", "[THINK]", "[/THINK]", "<|sys|>"),
        tail="</s>",
        ends=("</s>",),
        thought=("[THINK]", "[/THINK]", False),
    ),
}


def model_folder(
    folder: Path,
    template: str | None,
    *,
    markers: tuple[str, ...],
    eos: str = "</s>",
    bos: str = "<s>",
    listed_ends: tuple[str, ...] | None = None,
) -> Path:
    """A folder with a byte-level tokenizer and a template, without weights and without config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {char: i for i, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    for left, right in MERGES:
        vocabulary.setdefault(left + right, len(vocabulary))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=list(MERGES)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokens = [AddedToken(one, special=True, normalized=False) for one in dict.fromkeys((bos, eos, *markers))]
    tokenizer.add_special_tokens(tokens)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": bos, "eos_token": eos}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    if listed_ends is not None:
        ids = [tokenizer.token_to_id(one) for one in listed_ends]
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}))
    return folder


def folder_of(folder: Path, family: Family) -> Path:
    return model_folder(
        folder,
        family.template,
        markers=family.markers,
        eos=family.eos,
        bos=family.bos,
        listed_ends=family.listed_ends,
    )
