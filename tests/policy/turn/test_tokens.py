"""Written texts have the ids of the whole rendering, by the folder's own tokenizer."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from drsft.config import Prompts, Target
from drsft.errors import ModelError
from drsft.policy.prompts import Prompter, target_prompter
from drsft.policy.turn.tokenizer_files import load_tokenizer
from drsft.records import Problem
from tests.support.templates import FAMILIES, folder_of

TEXT = "The cat sat on 1234567 mats"
PROBLEM = Problem(problem_id="p", question="What is 3 + 4?", demonstration="So 7.", reference="7")
INSTRUCT = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)


def sentencepiece_like(kind: str) -> Tokenizer:
    """As Llama 2's (`legacy`: a space before every stretch of text) and as Llama's newer ones (`first`)."""
    letters = "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;?+-=[]/\n"
    vocabulary = {char: i for i, char in enumerate(letters)}
    merges = [("▁", "S"), ("▁", "A"), ("▁", "["), ("▁S", "o"), ("I", "N"), ("▁", "7")]
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    tokenizer = Tokenizer(
        models.BPE(vocab={**vocabulary, "<unk>": len(vocabulary)}, merges=merges, unk_token="<unk>")
    )
    if kind == "legacy":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=kind, split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(content=" ", left=1, right=0)]
    )
    tokenizer.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in ("<s>", "</s>")])
    return tokenizer


def save(
    tokenizer: Tokenizer, folder: Path, *, template: str = INSTRUCT, name: str = "", model_type: str = ""
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": name or "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text(template)
    if model_type:
        (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    return folder


def prompter_of(folder: Path) -> Prompter:
    return target_prompter(Target(model=str(folder), prompts=Prompts(plain="{question}")))


@pytest.mark.parametrize("before_answer", ["", " "])
@pytest.mark.parametrize("kind", ["legacy", "first", "always", "never"])
def test_no_dummy_space_is_trained_that_the_whole_rendering_has_not(
    kind: str, before_answer: str, tmp_path: Path
) -> None:
    template = INSTRUCT.replace("{% else %}", f"{{% else %}}{before_answer}")
    prompter = prompter_of(save(sentencepiece_like(kind), tmp_path, template=template))
    whole = f"<s>[INST] {PROBLEM.question} [/INST]{prompter.turn.head}{PROBLEM.demonstration}</s>"
    expected = PreTrainedTokenizerFast.from_pretrained(tmp_path)(whole, add_special_tokens=False)["input_ids"]
    assert [*prompter.plain(PROBLEM), *prompter.completion(PROBLEM.demonstration)] == expected


@pytest.mark.parametrize("kind", ["legacy", "first"])
def test_a_special_tokens_spelling_stays_text_without_a_space_before_it(kind: str, tmp_path: Path) -> None:
    prompter = prompter_of(save(sentencepiece_like(kind), tmp_path))
    ids = prompter.completion("So</s>7")
    tokens = prompter.tokenizer.convert_ids_to_tokens(ids)
    assert tokens[-1] == "</s>"
    assert tokens.count("</s>") == 1
    assert not tokens[0].startswith("▁")


def byte_level(*, digits: int | None = None) -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {char: i for i, char in enumerate(alphabet)}
    merges = [("1", "2"), ("12", "3"), ("Ġ", "c")]
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=digits is None)
    if digits is not None:
        split = pre_tokenizers.Split(Regex(rf"\p{{N}}{{1,{digits}}}|[^\p{{N}}]+"), behavior="isolated")
        level = pre_tokenizers.Sequence([split, level])
    tokenizer.pre_tokenizer = level
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in ("<s>", "</s>")])
    return tokenizer


@pytest.mark.parametrize(
    ("tokenizer", "name", "model_type"),
    [
        (byte_level(), "LlamaTokenizer", "llama"),
        (byte_level(), "LlamaTokenizer", "qwen3"),
        (byte_level(digits=3), "Qwen2Tokenizer", "qwen2"),
        (byte_level(digits=3), "PreTrainedTokenizerFast", "qwen2"),
    ],
    ids=["llama", "qwen3", "qwen2", "qwen2, by its model type"],
)
def test_the_folders_own_tokenizer_is_taken(
    tokenizer: Tokenizer, name: str, model_type: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = save(tokenizer, tmp_path, name=name, model_type=model_type)
    expected = tokenizer.encode(TEXT, add_special_tokens=False).ids
    theirs = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if theirs(TEXT, add_special_tokens=False)["input_ids"] == expected:
        pytest.skip("this transformers reads the file as it is")
    with caplog.at_level(logging.WARNING):
        ours = load_tokenizer(str(folder))
    assert ours(TEXT, add_special_tokens=False)["input_ids"] == expected
    assert ours.decode(expected) == TEXT
    assert ours.eos_token == "</s>"
    assert "differs from tokenizer.json; drsft uses tokenizer.json" in caplog.text


def test_template_tokens_beyond_the_embedding_are_found_before_anything_starts(tmp_path: Path) -> None:
    family = FAMILIES["several ends"]
    folder = folder_of(tmp_path, family)
    tokenizer = load_tokenizer(str(folder))
    end_id = tokenizer.convert_tokens_to_ids("<|e|>")
    config = {"model_type": "qwen2", "vocab_size": len(tokenizer)}
    (folder / "config.json").write_text(json.dumps(config))
    assert prompter_of(folder).turn.tail == "<|/r|><|e|>"
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": end_id}))
    with pytest.raises(ModelError, match=r"writes <\|e\|>, id \d+, which is beyond the \d+ rows"):
        prompter_of(folder)


@pytest.mark.parametrize("form", ["one file", "an index", "a wrapped model", "a head alone"])
def test_the_weights_rows_count_whatever_the_configuration_says(form: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, FAMILIES["several ends"])
    tokenizer = load_tokenizer(str(folder))
    end_id, size = tokenizer.convert_tokens_to_ids("<|e|>"), len(tokenizer)
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2", "vocab_size": size}))

    def save_weights(rows: int) -> None:
        embedding, head = np.zeros((rows, 4), np.float32), np.zeros((size, 4), np.float32)
        layer = {"model.layers.0.attention.output.weight": np.zeros((4, 4), np.float32)}
        match form:
            case "one file":
                save_file({"model.embed_tokens.weight": embedding, **layer}, folder / "model.safetensors")
            case "a wrapped model":
                named = {"model.language_model.embed_tokens.weight": embedding, "lm_head.weight": head}
                save_file({**named, **layer}, folder / "model.safetensors")
            case "a head alone":
                named = {"model.embed_tokens.weight": head, "lm_head.weight": embedding}
                save_file({**named, **layer}, folder / "model.safetensors")
            case _:
                save_file(layer, folder / "a.safetensors")
                save_file({"transformer.wte.weight": embedding}, folder / "b.safetensors")
                places = {**dict.fromkeys(layer, "a.safetensors"), "transformer.wte.weight": "b.safetensors"}
                index = folder / "model.safetensors.index.json"
                index.write_text(json.dumps({"metadata": {}, "weight_map": places}))

    save_weights(size)
    assert prompter_of(folder).turn.tail == "<|/r|><|e|>"
    save_weights(end_id)
    with pytest.raises(ModelError, match=rf"writes <\|e\|>, id \d+, which is beyond the {end_id} rows"):
        prompter_of(folder)


def test_weights_that_cannot_be_read_leave_the_word_to_the_configuration(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, FAMILIES["several ends"])
    size = len(load_tokenizer(str(folder)))
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2", "vocab_size": size}))
    (folder / "model.safetensors").write_bytes(b"\x00" * 20)
    assert prompter_of(folder).turn.tail == "<|/r|><|e|>"
