"""How well scores of grounding tell sound guided solutions from copied answers, by labels made by reading.

    python -m tests.studies.grounding --data gsm8k_train.jsonl.gz

grounding_labels.jsonl holds right guided solutions of one- and two-step problems by the model of
`make real-model`, each labelled by reading, blind to all scores. Problems of the first two parts are of
GSM8K's training split: `--data` is the file with them, in its field "problem" or "question". The others are
those of tests/real_model/problems.py.

  sound    every statement is true of the problem, the answer comes last, and it follows from what stands
           before it. A number that is neither in the question nor derived may be one operation away from it.
  unsound  a bare answer; an answer before its derivation; a false statement or equation; a step missing.

The labels of the part `tuned` chose the first rule, equations that hold. Those of `held_out` are other
samples of the same problems, labelled after that. Those of `one_step` showed that the rule loses sound texts
without an equation; since then a calculation must give the answer. Those of `one_step_later` were sampled and
labelled afterwards. Prints for each score the area under the ROC curve with a 95 % bootstrap interval over
problems, and what the rule keeps. Score (c) samples; it is left out unless asked for.
"""

import argparse
import asyncio
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drsft.config import Engine, Grounding, Problems, Target
from drsft.intake.rows import Row, read_rows
from drsft.policy.prompts import Prompter, target_prompter
from drsft.policy.vllm.policy import VLLMPolicy
from drsft.records import Completion, GroundingScores, Outcome, Problem, Sampling, Verdict
from drsft.rewrite.grounding import (
    GroundingCheck,
    rejection_of_scores,
    rejection_of_steps,
    stating_tokens,
)
from drsft.verify.pool import VerifierPool
from drsft.verify.protocol import Verifier
from tests.real_model.problems import NUM_HELD_OUT, NUM_TRAIN, make

LABELS = Path(__file__).parent / "grounding_labels.jsonl"
CONTINUATION_TOKENS = 32
NUM_BOOTSTRAPS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    problem: Problem
    text: str
    is_sound: bool
    part: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    label: Label
    scores: GroundingScores
    unaided_logprob: float  # of the answer right behind the question, nats
    steps: Verdict
    arrivals: float  # share of sampled continuations from just before the first statement that are right
    arrives_greedily: bool

    @property
    def is_kept(self) -> bool:
        rule = Grounding(narrows_gap=False)
        return rejection_of_steps(self.steps, rule) is rejection_of_scores(self.scores, rule) is None

    @property
    def answer_logprob(self) -> float:
        """Very low where no statement of the answer was found."""
        return -50.0 if self.scores.answer_logprob is None else self.scores.answer_logprob

    @property
    def has_holding_equations(self) -> bool:
        return self.steps.outcome is Outcome.CORRECT

    @property
    def is_derived(self) -> bool:
        is_false = self.steps.outcome is Outcome.WRONG
        return not is_false and self.steps.steps is not None and self.steps.steps.derives_answer is True


def labels(data: Path) -> list[Label]:
    """The labels whose questions are in `data`. Raises SystemExit where one is missing."""
    questions = {digest(one["problem"]): one["problem"] for one in make(NUM_TRAIN + NUM_HELD_OUT, seed=0)}
    for row in read_rows(Problems(path=str(data))):
        if isinstance(row, Row):
            question = str(row.fields.get("problem") or row.fields.get("question")).strip()
            questions[digest(question)] = question
    rows = [json.loads(line) for line in LABELS.read_text(encoding="utf-8").splitlines()]
    if missing := [row for row in rows if row["question"] not in questions]:
        raise SystemExit(f"{data}: {len(missing)} of {len(rows)} labelled questions are not in it")
    return [_label(row, questions[row["question"]]) for row in rows]


def digest(question: str) -> str:
    """Twenty hex digits that name a question in the file of labels."""
    return hashlib.blake2b(question.encode(), digest_size=10).hexdigest()


def _label(row: dict[str, str], question: str) -> Label:
    problem = Problem(
        problem_id=row["question"], question=question, demonstration="", reference=row["reference"]
    )
    return Label(
        problem=problem,
        text=row["text"],
        is_sound=row["label"] == "sound",
        part=row["part"],
    )


async def score(
    label: Label, policy: VLLMPolicy, prompter: Prompter, verifier: Verifier, num_continuations: int
) -> Scored:
    problem, completion = label.problem, prompter.solution(label.text)
    verdict = await verifier.judge(problem, label.text)
    plain_ids = prompter.plain(problem)
    answer = verdict.answer or ""
    check = GroundingCheck(problem, plain_ids, policy, prompter)
    scores = await check.scores(completion, answer, beside_expert=False)
    steps = await verifier.judge(replace(problem, kind="steps"), label.text)
    stating = stating_tokens(completion, answer, problem.question, prompter.decode)
    beginning = completion.token_ids[: stating.start if stating is not None else 0]

    async def share_arriving(num_samples: int, temperature: float) -> float:
        sampling = Sampling(
            num_samples=num_samples, temperature=temperature, max_tokens=CONTINUATION_TOKENS, seed=1
        )
        found = await policy.generate([*plain_ids, *beginning], sampling)
        return float(np.mean([_arrives(one, problem.reference, prompter) for one in found]))

    return Scored(
        label=label,
        scores=scores,
        unaided_logprob=await _unaided_logprob(problem, answer, policy, prompter),
        steps=steps,
        arrivals=await share_arriving(num_continuations, 1.0) if num_continuations else 0.0,
        arrives_greedily=bool(num_continuations) and await share_arriving(1, 0.0) == 1.0,
    )


async def _unaided_logprob(problem: Problem, answer: str, policy: VLLMPolicy, prompter: Prompter) -> float:
    bare = prompter.solution(f"The answer is \\boxed{{{answer}}}.")
    logprobs_T = await policy.logprobs(prompter.plain(problem), bare.token_ids)
    tokens = stating_tokens(bare, answer, "", prompter.decode)
    return -50.0 if tokens is None else sum(logprobs_T[tokens.start : tokens.stop])


def _arrives(found: Completion, reference: str, prompter: Prompter) -> bool:
    """Whether the continuation begins with the answer; a space or a sign may stand before it."""
    tokens = stating_tokens(found, reference, "", prompter.decode)
    return tokens is not None and tokens.start <= 2


def area(values: NDArray[np.float64], is_sound: NDArray[np.bool_]) -> float:
    """The probability that a sound text has the higher value; ties count half."""
    sound, unsound = values[is_sound, None], values[None, ~is_sound]
    return float(((sound > unsound) + 0.5 * (sound == unsound)).mean())


def interval(
    values: NDArray[np.float64], is_sound: NDArray[np.bool_], problems: Sequence[str]
) -> tuple[float, float]:
    """95 % over resampled problems."""
    draws = np.random.default_rng(0)
    names = sorted(set(problems))
    rows = {name: [i for i, one in enumerate(problems) if one == name] for name in names}
    found = []
    for _ in range(NUM_BOOTSTRAPS):
        chosen = np.array([i for name in draws.choice(names, len(names)) for i in rows[name]])
        if 0 < is_sound[chosen].sum() < len(chosen):
            found.append(area(values[chosen], is_sound[chosen]))
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


RULED_OUT = -100.0  # nats: below every other score

SCORES: dict[str, Callable[[Scored], float]] = {
    "(a) answer's log-prob": lambda one: one.answer_logprob,
    "(b) lift": lambda one: one.answer_logprob - one.unaided_logprob,
    "(c) arrives, greedily": lambda one: float(one.arrives_greedily),
    "(c) share that arrives": lambda one: one.arrivals,
    "(d) equations hold": lambda one: float(one.has_holding_equations),
    "(e) a calculation gives it": lambda one: float(one.is_derived),
    "(a) with (e)": lambda one: one.answer_logprob if one.is_derived else RULED_OUT,
    "(b) with (e)": lambda one: one.answer_logprob - one.unaided_logprob if one.is_derived else RULED_OUT,
    "(a) with (d)": lambda one: one.answer_logprob if one.has_holding_equations else RULED_OUT,
    "(b) with (d)": lambda one: (
        one.answer_logprob - one.unaided_logprob if one.has_holding_equations else RULED_OUT
    ),
    "mean log-prob": lambda one: one.scores.mean_logprob,
}


def table(found: Sequence[Scored], *, with_continuations: bool) -> Iterable[str]:
    is_sound = np.array([one.label.is_sound for one in found])
    problems = [one.label.problem.problem_id for one in found]
    kept = np.array([one.is_kept for one in found])
    yield f"{len(found)} labels, {is_sound.sum()} sound"
    for name, read in SCORES.items():
        if name.startswith("(c)") and not with_continuations:
            continue
        values = np.array([read(one) for one in found])
        low, high = interval(values, is_sound, problems)
        yield f"  {name:24} area {area(values, is_sound):.3f} ({low:.3f} to {high:.3f})"
    yield f"  the rule keeps {kept[is_sound].mean():.1%} of sound and {kept[~is_sound].mean():.1%} of unsound"


async def study(data: Path, model: str, dtype: str, num_continuations: int) -> None:
    target = Target.model_validate(
        {"model": model, "dtype": dtype, "max_model_len": 768, "engine": ENGINE.model_dump()}
    )
    prompter = target_prompter(target)
    with VLLMPolicy(target, prompter) as policy, VerifierPool() as verifier:
        found = await asyncio.gather(
            *(score(one, policy, prompter, verifier, num_continuations) for one in labels(data))
        )
    for name in dict.fromkeys(one.label.part for one in found):
        part = [one for one in found if one.label.part == name]
        print(name, *table(part, with_continuations=num_continuations > 0), sep="\n")


ENGINE = Engine(max_num_seqs=96, kv_cache_mib=1024, enforce_eager=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="GSM8K's training problems")
    parser.add_argument("--model", default="models/smollm2-135m-instruct", help="a model folder")
    parser.add_argument("--dtype", default="bfloat16", choices=("float32", "bfloat16"))
    parser.add_argument("--continuations", type=int, default=0, help="samples of score (c) for each text")
    options = parser.parse_args()
    asyncio.run(study(options.data, options.model, options.dtype, options.continuations))


if __name__ == "__main__":
    main()
