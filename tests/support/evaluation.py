"""Benchmarks in every format with problems of our own, and a policy that answers from a table."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drsft.config import RunConfig
from drsft.evaluate.benchmark_shards import missing_shards
from drsft.evaluate.plans import plan_benchmarks
from drsft.evaluate.sampling import ModelEvaluation
from drsft.policy.prompts import Prompter, load_prompter
from drsft.policy.protocol import OnTokens
from drsft.records import Completion, FinishReason, Sampling
from drsft.run.run import Run
from drsft.storage import LocalStore
from drsft.verify.pool import VerifierPool

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """`row(i)` in the benchmark's columns, what a model says to be right or wrong, what the prompt holds."""

    name: str
    row: Callable[[int], Row]
    right: Callable[[int], str]
    wrong: Callable[[int], str]
    asked: Callable[[int], str]


def boxed(answer: str) -> str:
    return f"We compute step by step. So the answer is \\boxed{{{answer}}}."


def _function(i: int, *, offset: int) -> str:
    return f"def shift{i}(x):\n    return x + {i + offset}\n"


def _block(code: str) -> str:
    return f"Here it is:\n```python\n{code}```\nIt adds."


def _stub(i: int) -> str:
    return f'from typing import List\n\n\ndef shift{i}(x: int) -> int:\n    """Add {i} to x.\n    """\n'


def _checks(i: int) -> list[str]:
    return [f"assert shift{i}(1) == {1 + i}", f"assert shift{i}(-4) == {i - 4}"]


def _question(i: int) -> str:
    return f"Train number {i} leaves with {i} cars and takes on {i + 2} more. How many cars has it?"


def _choices(i: int) -> list[str]:
    return [f"A){i}", f"B){2 * i + 2}", f"C){3 * i + 7}", f"D){i - 1}", "E)None of these"]


def _maths(name: str, row: Callable[[int], Row], right: Callable[[int], str]) -> Format:
    return Format(
        name=name,
        row=row,
        right=lambda i: boxed(right(i)),
        wrong=lambda i: boxed(str(10_000 + i)),
        asked=_question,
    )


def _sum(i: int) -> str:
    return str(2 * i + 2)


# Columns as on the hub; local copies use "problem" and "answer".
FORMATS = (
    _maths(
        "math500",
        lambda i: {
            "problem": _question(i),
            "solution": "s",
            "answer": f"\\frac{{{4 * i + 4}}}{{2}}",
            "level": 1,
        },
        _sum,
    ),
    _maths("minerva_math", lambda i: {"question": _question(i), "answer": f"{_sum(i)}"}, _sum),
    _maths(
        "olympiadbench",
        lambda i: {"question": _question(i), "final_answer": [f"${_sum(i)}$"], "unit": None},
        _sum,
    ),
    _maths("aime24", lambda i: {"problem": _question(i), "answer": f"{2 * i + 2:03d}"}, _sum),
    _maths("amc23", lambda i: {"question": _question(i), "answer": float(2 * i + 2)}, _sum),
    _maths("gsm8k", lambda i: {"question": _question(i), "answer": f"It is so.\n#### {2 * i + 2}"}, _sum),
    _maths(
        "svamp",
        lambda i: {
            "Body": _question(i).rpartition(" How")[0],
            "Question": "How many cars has it?",
            "Answer": f"{2 * i + 2}.0",
        },
        _sum,
    ),
    Format(
        name="aqua",
        row=lambda i: {"question": _question(i), "options": _choices(i), "rationale": "r", "correct": "B"},
        right=lambda i: boxed("B"),
        wrong=lambda i: "The answer is (C).",
        asked=lambda i: f"{_question(i)}\nA){i}\n",
    ),
    Format(
        name="humaneval",
        row=lambda i: {
            "task_id": f"HumanEval/{i}",
            "prompt": _stub(i),
            "canonical_solution": f"    return x + {i}\n",
            "test": "def check(candidate):\n    " + "\n    ".join(_checks(i)),
            "entry_point": f"shift{i}",
        },
        right=lambda i: _block(_function(i, offset=0)),
        wrong=lambda i: _block(_function(i, offset=1)),
        asked=lambda i: _stub(i).strip(),
    ),
    Format(
        name="mbpp",
        row=lambda i: {
            "task_id": i,
            "text": f"Write a function that adds {i}.",
            "code": _function(i, offset=0),
            "test_list": _checks(i),
            "test_setup_code": "",
            "challenge_test_list": [],
        },
        right=lambda i: _block(_function(i, offset=0)),
        wrong=lambda i: _block(_function(i, offset=1)),
        asked=lambda i: _checks(i)[0],
    ),
)


class LookupPolicy:
    """What a model would say, by the text that its prompt holds; counts what it is asked."""

    def __init__(self, prompter: Prompter, answers: Mapping[str, Sequence[Completion]]) -> None:
        self._prompter = prompter
        self._answers = answers
        self.asked: list[str] = []

    async def generate(
        self, prompt_ids: Sequence[int], sampling: Sampling, *, on_tokens: OnTokens | None = None
    ) -> list[Completion]:
        prompt = self._prompter.decode(prompt_ids)
        (known,) = [text for text in self._answers if text in prompt]
        self.asked.append(known)
        return list(self._answers[known][: sampling.num_samples])


def said(prompter: Prompter, text: str, *, finish_reason: FinishReason = FinishReason.STOP) -> Completion:
    ids = prompter.completion(text)
    kept = ids if finish_reason is FinishReason.STOP else ids[:-1]
    return Completion(token_ids=kept, text=text, behaviour_logprobs_T=None, finish_reason=finish_reason)


def embedded_prompter(config: RunConfig) -> Prompter:
    return load_prompter(config.target.model, config.target.prompts)


def write_rows(path: Path, rows: Sequence[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run_config(folder: Path, benchmarks: Sequence[Any], **evaluate: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "name": "lookup",
            "storage": str(folder / "runs"),
            "problems": {"path": str(folder / "train.jsonl")},
            "target": {"model": "embedded", "max_model_len": 4096},
            "rewrite": {"verification": {"timeout_s": 30}},
            "evaluate": {"benchmarks": list(benchmarks), "max_tokens": 64, **evaluate},
        }
    )


def evaluate_base(
    config: RunConfig,
    policy: LookupPolicy,
    *,
    model: str = "base",
    verifier_name: str = "v1",
    may_begin: Callable[[], bool] = lambda: True,
) -> LocalStore:
    """What the evaluation's actor does, with another policy."""
    store = LocalStore(Path(config.storage) / config.run_id)
    prompter = embedded_prompter(config)
    run = Run(store, config)
    plans = plan_benchmarks(run, prompter)
    store.put("run.json", b"{}")
    evaluated = next(one for one in run.models() if one.name == model)
    waiting = [shard.name for shard in missing_shards(run, evaluated, plans)]

    async def draw(slot: int, finished: str | None) -> str | None:
        return waiting.pop(0) if waiting and may_begin() else None

    with VerifierPool.from_config(config.rewrite.verification, num_workers=1) as verifier:
        evaluation = ModelEvaluation(
            run,
            evaluated,
            policy=policy,
            verifier=verifier,
            prompter=prompter,
            verifier_version=verifier_name,
            provenance={},
        )
        asyncio.run(evaluation.evaluate(draw))
    return store
