"""The embedded task, its shipped files and the shipped base model."""

import gzip
import json
import unicodedata
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
)

from tests.base_model.measure import guided_prompt, plain_prompt, ratio, sample, share
from tests.base_model.soundness import boxed_answer, is_sound
from tests.base_model.task import (
    DATA_DIR,
    GUIDED_PROMPT,
    MODEL_DIR,
    PLAIN_PROMPT,
    SHIPPED_COUNTS,
    Split,
    make_problems,
    shipped_bytes,
)
from tests.base_model.tokenizer import END_OF_TURN
from tests.base_model.training_data import PHASES, make_pools


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(MODEL_DIR)


def test_splits_never_overlap() -> None:
    questions = {split: {p.question for p in make_problems(split, 400)} for split in Split}
    other_seed = {p.question for p in make_problems(Split.BASE, 400, seed=7)}
    assert all(len(of_split) == 400 for of_split in questions.values())
    assert len(set().union(*questions.values())) == 400 * len(Split)
    assert not other_seed & set().union(*(questions[s] for s in Split if s is not Split.BASE))


@pytest.mark.parametrize("split", list(SHIPPED_COUNTS))
def test_shipped_problems_regenerate_byte_for_byte(split: Split) -> None:
    shipped = (DATA_DIR / f"{split}.jsonl.gz").read_bytes()
    assert shipped_bytes(make_problems(split, SHIPPED_COUNTS[split])) == shipped
    rows = [json.loads(line) for line in gzip.decompress(shipped).splitlines()]
    assert {tuple(row) for row in rows} == {("id", "problem", "solution", "answer", "level", "family")}
    assert len({row["id"] for row in rows}) == len(rows)


@pytest.mark.parametrize("split", list(Split))
def test_every_solution_ends_in_the_right_box_and_own_ones_are_sound(split: Split) -> None:
    for problem in make_problems(split, 500, seed=3):
        assert boxed_answer(problem.demonstration) == problem.answer
        assert problem.demonstration.endswith(f"\\boxed{{{problem.answer}}}.")
        assert problem.own_solution.endswith(f"\\boxed{{{problem.answer}}}")
        assert is_sound(problem.own_solution, problem.question)
        assert problem.own_solution.count("=") == problem.level


@pytest.mark.parametrize(
    "bluff",
    [
        "43+46=98;98-7=82;\\boxed{82}",  # two wrongs make a right box
        "80+2=82;\\boxed{82}",  # invented operands
        "43+46=89;\\boxed{82}",  # the box is not the last result
        "43-7=36;43+46=89;89-7=82;\\boxed{82}",  # a result that leads nowhere
        "\\boxed{82}",
        "43+46=89;89-7=82;\\boxed{82} or so",
        "",
    ],
)
def test_bluffs_are_not_sound(bluff: str) -> None:
    question = "Ann has 43 cups, gets 46 more, loses 7. How many cups are left?"
    assert is_sound("43+46=89;89-7=82;\\boxed{82}", question)
    assert not is_sound(bluff, question)


@settings(max_examples=100, deadline=None)
@given(text=st.text())
def test_any_text_survives_the_tokenizer(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    # Qwen2's tokenizer normalises to NFC first; beyond that nothing may be lost.
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == unicodedata.normalize("NFC", text)


def test_every_loader_gives_the_same_ids(tokenizer: PreTrainedTokenizerBase) -> None:
    qwen = Qwen2Tokenizer.from_pretrained(MODEL_DIR)
    fast = PreTrainedTokenizerFast(tokenizer_file=str(MODEL_DIR / "tokenizer.json"))
    texts = [
        "naïve 12345 \u6f22\u5b57 \\boxed{-3}\n\n  tabs\tand\r\nlines",
        "don't",
        " 7",
        "7",
        "430 x43 43x 43.",
    ]
    for problem in make_problems(Split.HELD_OUT, 100):
        texts += [guided_prompt(problem) + problem.own_solution + END_OF_TURN]
    for text in texts:
        wanted = tokenizer(text, add_special_tokens=False)["input_ids"]
        for loaded in (qwen, fast):
            assert loaded(text, add_special_tokens=False)["input_ids"] == wanted


def test_words_and_two_digit_numbers_are_single_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    words = {w for p in make_problems(Split.TRAIN, 200) for w in f"{p.question} {p.demonstration}".split(" ")}
    for word in words:
        if word.isalpha():
            assert len(tokenizer.tokenize(" " + word)) == 1, word
    assert tokenizer.tokenize("43+46=89;") == ["43", "+", "46", "=", "89", ";"]
    assert tokenizer.tokenize("123") == ["1", "2", "3"]
    assert len(tokenizer) < 1000


def test_chat_template_ends_turns_and_adds_no_system_prompt(tokenizer: PreTrainedTokenizerBase) -> None:
    problem = next(make_problems(Split.TRAIN, 1))
    user = {"role": "user", "content": PLAIN_PROMPT.format(question=problem.question)}
    reply = {"role": "assistant", "content": problem.own_solution}
    prompt = tokenizer.apply_chat_template([user], tokenize=False, add_generation_prompt=True)
    assert prompt == plain_prompt(problem)
    whole = tokenizer.apply_chat_template([user, reply], tokenize=False)
    assert whole == prompt + problem.own_solution + "<|im_end|>\n"
    guided = GUIDED_PROMPT.format(question=problem.question, demonstration=problem.demonstration)
    guided_user = {"role": "user", "content": guided}
    assert guided_prompt(problem) == tokenizer.apply_chat_template(
        [guided_user], tokenize=False, add_generation_prompt=True
    )
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.pad_token == "<|endoftext|>"


def test_training_sees_the_ids_of_the_whole_text(tokenizer: PreTrainedTokenizerBase) -> None:
    # Examples are encoded in pieces, each with its loss weight; pieces must not change the ids.
    pools = make_pools(tokenizer, PHASES[-1].levels, num_problems=60, seed=0)
    assert {kind for kind, _ in pools} == {"plain", "guided", "restyled", "prose", "equations"}
    for examples in pools.values():
        for example in examples:
            text = tokenizer.decode(example.token_ids, clean_up_tokenization_spaces=False)
            assert tokenizer(text, add_special_tokens=False)["input_ids"] == example.token_ids
            assert len(example.loss_weights) == len(example.token_ids)
            assert any(example.loss_weights)


def test_intervals_match_hand_computed_cases() -> None:
    half = share("", [True] * 5 + [False] * 5)  # Wilson, n=10, p=1/2
    assert (half.value, half.low, half.high) == pytest.approx((0.5, 0.2366, 0.7634), abs=1e-4)
    none = share("", [False] * 10)
    assert (none.value, none.low, none.high) == pytest.approx((0.0, 0.0, 0.2775), abs=1e-4)
    samples = ratio("", [4, 0], [4, 4])  # two problems, all or none right: spread sqrt(2^2 + 2^2) / 8
    assert (samples.value, samples.high - samples.value) == pytest.approx((0.5, 1.96 * 8**0.5 / 8))


def test_shipped_model_is_small_and_knows_both_ends() -> None:
    assert sum(file.stat().st_size for file in MODEL_DIR.iterdir()) <= 4 * 1024 * 1024
    generation = json.loads((MODEL_DIR / "generation_config.json").read_text())
    config = json.loads((MODEL_DIR / "config.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    ends = [tokenizer.convert_tokens_to_ids(t) for t in ("<|im_end|>", "<|endoftext|>")]
    assert generation["eos_token_id"] == ends
    assert config["architectures"] == ["Qwen2ForCausalLM"]
    assert config["tie_word_embeddings"]
    assert config["max_position_embeddings"] == 1024


def test_shipped_model_solves_some_probe_problems(tokenizer: PreTrainedTokenizerBase) -> None:
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32).eval()
    problems = list(make_problems(Split.PROBE, 40))
    prompts = [plain_prompt(p) for p in problems]
    greedy = sample(model, tokenizer, prompts, num_samples=1, seed=0, greedy=True)
    torch.set_num_threads(num_threads)
    num_right = sum(boxed_answer(texts[0]) == p.answer for p, texts in zip(problems, greedy, strict=True))
    assert num_right / len(problems) > 0.25


def test_problem_files_are_written_by_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.base_model import task

    monkeypatch.setattr("sys.argv", ["task", "--out", str(tmp_path)])
    task.main()
    for split in SHIPPED_COUNTS:
        name = f"{split}.jsonl.gz"
        assert (tmp_path / name).read_bytes() == (DATA_DIR / name).read_bytes()
