"""Benchmarks by name: what is read from a row, what is asked, and what a mistake says."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from transformers import PreTrainedTokenizerFast

from drsft.config import Benchmark, Evaluate, Prompts, Target
from drsft.config.benchmarks import KNOWN_BENCHMARKS, PAPER_BENCHMARKS
from drsft.errors import InputError
from drsft.intake.problems import Intake, read_problems
from drsft.policy.prompts import Prompter, load_prompter
from drsft.policy.turn.load import derive_turn
from drsft.records import Problem
from tests.support.evaluation import FORMATS, Format, write_rows


def read(benchmark: Benchmark) -> list[Problem]:
    intake = Intake()
    problems = list(read_problems(benchmark.problems, intake, needs_demonstration=False))
    assert not intake.quarantined
    return problems


def local_row(name: str, row: dict[str, Any]) -> dict[str, Any]:
    """The same problem in the columns that local copies use: problem, answer, tests."""
    match name:
        case "aqua":
            return {"problem": "\n".join([row["question"], *row["options"]]), "answer": row["correct"]}
        case "humaneval":
            kept = {key: row[key] for key in ("test", "entry_point")}
            return {"problem": row["prompt"], "solution": "", "answer": None, **kept}
        case "mbpp":
            return {"problem": row["text"], "answer": None, "tests": row["test_list"], "test_setup": ""}
        case "svamp":
            return {"problem": f"{row['Body']} {row['Question']}", "answer": row["Answer"]}
        case "olympiadbench":
            return {"problem": row["question"], "answer": ", ".join(row["final_answer"]), "error": None}
        case _:
            return {"problem": row.get("problem") or row["question"], "answer": row["answer"]}


def test_every_known_benchmark_is_tried_in_its_own_format() -> None:
    assert {one.name for one in FORMATS} == set(KNOWN_BENCHMARKS)


@pytest.mark.parametrize("format_", FORMATS, ids=lambda one: one.name)
def test_a_local_copy_gives_the_problems_that_the_hub_gives(tmp_path: Path, format_: Format) -> None:
    rows = [format_.row(i) for i in range(3)]
    hub = write_rows(tmp_path / "hub.jsonl", rows)
    local = write_rows(tmp_path / "local.jsonl", [local_row(format_.name, row) for row in rows])
    by_place = [
        read(Benchmark.model_validate({"name": format_.name, "problems": {"path": str(path)}}))
        for path in (hub, local)
    ]
    assert by_place[0][0].question == by_place[1][0].question
    assert [one.kind for one in by_place[0]] == [one.kind for one in by_place[1]]
    assert len(by_place[0]) == len(by_place[1]) == 3
    if format_.name not in ("humaneval", "mbpp"):  # there the reference holds all fields of the tests
        assert [one.reference for one in by_place[0]] == [one.reference for one in by_place[1]]


def test_a_list_of_answers_is_one_reference(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "o.jsonl", [{"question": "Solve x^2 = 4.", "final_answer": ["2", "-2"]}])
    (problem,) = read(Benchmark.model_validate({"name": "olympiadbench", "problems": {"path": str(path)}}))
    assert problem.reference == "2, -2"


def test_a_users_own_file_is_read_through_its_mapping(tmp_path: Path) -> None:
    path = write_rows(
        tmp_path / "q.jsonl", [{"stem": "Which is even?", "options": ["A. 1", "B. 2"], "key": "B"}]
    )
    own = {
        "name": "own",
        "problems": {
            "path": str(path),
            "kind": "choice",
            "columns": {"question": "{stem}\n{options}", "reference": "key"},
        },
    }
    (problem,) = read(Benchmark.model_validate(own))
    assert (problem.question, problem.reference, problem.kind) == (
        "Which is even?\nA. 1\nB. 2",
        "B",
        "choice",
    )


def test_a_name_alone_means_the_hub_and_keys_beside_it_win() -> None:
    named = Benchmark.model_validate("gsm8k").problems
    assert (named.path, named.subset, named.split) == ("openai/gsm8k", "main", "test")
    limited = Benchmark.model_validate({"name": "gsm8k", "problems": {"limit": 5, "path": "mine.jsonl"}})
    assert (limited.problems.path, limited.problems.split, limited.problems.limit) == (
        "mine.jsonl",
        "test",
        5,
    )
    assert Benchmark.model_validate(limited.model_dump()) == limited


def test_an_unknown_name_is_told_with_the_one_that_was_meant() -> None:
    with pytest.raises(ValidationError, match=r"'math50'; did you mean 'math500'\?"):
        Evaluate.model_validate({"benchmarks": ["math50"]})


def test_a_benchmark_that_is_not_to_be_had_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="HuggingFaceH4/MATH-500") as caught:
        read(Benchmark.model_validate("math500"))
    assert "local copy" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_published_protocol_is_the_papers() -> None:
    published = Evaluate.model_validate({"preset": "published"})
    assert tuple(one.name for one in published.benchmarks) == PAPER_BENCHMARKS
    assert (published.num_samples, published.temperature, published.top_p) == (16, 1.0, 1.0)
    assert published.max_tokens == 4096
    prompts = published.prompts_for(published.benchmarks[0], Prompts(plain="{question}", system="Obey."))
    assert prompts.system == "You are a helpful assistant."
    assert prompts.plain.startswith("{question}\n")
    assert "\\boxed{}" in prompts.plain
    fewer = Evaluate.model_validate({"preset": "published", "num_samples": 4, "benchmarks": ["aime24"]})
    assert (fewer.num_samples, [one.name for one in fewer.benchmarks]) == (4, ["aime24"])


def test_a_benchmarks_own_prompt_wins_over_the_protocols() -> None:
    evaluate = Evaluate.model_validate({"preset": "published", "benchmarks": ["aqua", "gsm8k"]})
    aqua, gsm8k = (evaluate.prompts_for(one, Prompts()).plain for one in evaluate.benchmarks)
    assert "letter" in aqua
    assert "letter" not in gsm8k


@pytest.mark.parametrize("key", ["prompt", "benchmarks"])
def test_a_prompt_without_the_question_is_refused(key: str) -> None:
    value: Any = "Solve!" if key == "prompt" else [{"name": "gsm8k", "prompt": "Solve!"}]
    with pytest.raises(ValidationError, match="must contain"):
        Evaluate.model_validate({key: value})


LLAMA_LIKE = (  # writes its own begin-of-text, as Llama's template does
    "<|begin|>{% for m in messages %}<|start|>{{ m.role }}<|sep|>{{ m.content }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant<|sep|>{% endif %}"
)


def test_the_prompt_begins_with_one_begin_of_text() -> None:
    embedded = load_prompter("embedded", Prompts()).tokenizer
    specials = ["<|begin|>", "<|start|>", "<|sep|>", "<|eot|>"]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=embedded.backend_tokenizer, bos_token="<|begin|>")
    tokenizer.add_special_tokens({"additional_special_tokens": specials, "eos_token": "<|eot|>"})
    tokenizer.chat_template = LLAMA_LIKE
    evaluate = Evaluate.model_validate({"preset": "published_llama"})
    prompts = evaluate.prompts_for(evaluate.benchmarks[0], Prompts())
    turn = derive_turn(tokenizer, Target(model="embedded"), "embedded")
    prompter = Prompter(tokenizer, prompts, turn)
    problem = Problem(problem_id="p", question="1 + 1?", demonstration="", reference="2")
    ids = prompter.plain(problem)
    begin = tokenizer.convert_tokens_to_ids("<|begin|>")
    assert ids[0] == begin
    assert ids.count(begin) == 1
    assert prompter.end_of_turn_id == tokenizer.convert_tokens_to_ids("<|eot|>")
