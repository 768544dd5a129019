"""Bounds on the number of tokens from lengths alone, against tokenising."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from drsft.config import Prompts, Target
from drsft.errors import InputError
from drsft.policy.prompts import Prompter, load_prompter, target_prompter
from drsft.policy.turn.token_bounds import most_tokens, tokens_per_byte
from drsft.records import Problem
from tests.support.templates import FAMILIES, folder_of

# Characters of one to four bytes, those that NFC makes three times as long, marks, and pieces of markers.
PIECES = ["a", " ", "\n", "7", "é", "東", "😀", "\U0001d160", "\u0958", "\ufb2c", "\u0301", "<|e|>"]
TEXTS = st.lists(st.sampled_from(PIECES) | st.characters(exclude_categories=["Cs"]), max_size=60).map("".join)
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False)


def byte_level(
    normalizer: normalizers.Normalizer | None = None,
    pre_tokenizer: pre_tokenizers.PreTokenizer = BYTES,
    **options: object,
) -> Tokenizer:
    """A tokenizer without merges, which gives the most tokens that there can be."""
    vocabulary = {one: number for number, one in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[], **options))
    if normalizer is not None:
        made.normalizer = normalizer
    made.pre_tokenizer, made.decoder = pre_tokenizer, decoders.ByteLevel()
    return made


@pytest.mark.parametrize(
    "made",
    [
        byte_level(),
        byte_level(normalizers.NFC()),
        byte_level(
            pre_tokenizer=pre_tokenizers.Sequence(
                [
                    pre_tokenizers.Digits(individual_digits=True),
                    pre_tokenizers.Punctuation(),
                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
                ]
            )
        ),
    ],
    ids=["bytes", "nfc", "cut"],
)
@given(text=TEXTS)
def test_no_text_has_more_tokens_than_its_bound(made: Tokenizer, text: str) -> None:
    beyond_ascii = tokens_per_byte(made)
    assert beyond_ascii is not None
    assert len(made.encode(text, add_special_tokens=False).ids) <= most_tokens(text, beyond_ascii)


@pytest.mark.parametrize(
    "made",
    [
        None,
        byte_level(normalizers.NFKC()),
        byte_level(normalizers.Prepend("__")),
        byte_level(normalizers.Sequence([normalizers.NFC(), normalizers.Replace("a", "aaaa")])),
        byte_level(pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=True)),
        byte_level(pre_tokenizer=pre_tokenizers.Metaspace()),
        byte_level(pre_tokenizer=pre_tokenizers.Sequence([BYTES, BYTES])),
        byte_level(byte_fallback=True),
        Tokenizer(models.WordLevel({"a": 0}, unk_token="a")),
    ],
    ids=["slow", "nfkc", "prepend", "replace", "prefix", "metaspace", "twice", "fallback", "words"],
)
def test_what_may_lengthen_a_text_gets_no_bound(made: Tokenizer | None) -> None:
    assert tokens_per_byte(made) is None


def test_padding_gets_no_bound() -> None:
    made = byte_level()
    made.enable_padding(length=4096)
    assert tokens_per_byte(made) is None


@pytest.fixture(scope="module", params=["embedded", *FAMILIES])
def prompter(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Prompter:
    if request.param == "embedded":
        return load_prompter("embedded", Prompts())
    folder: Path = tmp_path_factory.mktemp("model")
    family = FAMILIES[request.param]
    model = str(folder_of(folder, family))
    return target_prompter(Target(model=model, chat_template_kwargs=family.kwargs))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(texts=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4))
def test_problems_are_measured_at_once_as_one_by_one_and_within_their_bound(
    prompter: Prompter, texts: list[tuple[str, str]]
) -> None:
    problems = [
        Problem(problem_id="", question=question.strip(), demonstration=solution.strip(), reference="1")
        for question, solution in texts
    ]
    try:
        slow = [len(prompter.plain(one)) + len(prompter.completion(one.demonstration)) for one in problems]
    except InputError:
        with pytest.raises(InputError):
            prompter.num_tokens(problems)
        return
    assert prompter.num_tokens(problems) == slow
    bound = prompter.length_bound()
    if bound is not None:
        assert all(count <= bound.of(one) for count, one in zip(slow, problems, strict=True))


def test_the_embedded_model_has_a_bound_that_spares_tokenising() -> None:
    bound = load_prompter("embedded", Prompts()).length_bound()
    assert bound is not None
    problem = Problem(problem_id="", question="q" * 500, demonstration="s" * 500, reference="1")
    assert bound.of(problem) < 1500
