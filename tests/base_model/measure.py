"""How a model stands on the embedded task: `python -m tests.base_model.measure MODEL_DIR`.

Prints what the three sources would each supply (own / guided / expert), how far the expert's style is from
the model's, and two checks on guidance: whether the accepted steps are sound, and what a bare answer in place
of the demonstration would have given.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from tests.base_model.soundness import boxed_answer, is_sound
from tests.base_model.task import (
    GUIDED_PROMPT,
    MODEL_DIR,
    PLAIN_PROMPT,
    Split,
    WordProblem,
    make_problems,
)
from tests.base_model.tokenizer import END_OF_TURN, chat_text

__all__ = ["Figure", "guided_prompt", "measure", "plain_prompt", "ratio", "sample", "share"]

NUM_SAMPLES = 4
MAX_NEW_TOKENS = 128
PROMPTS_PER_BATCH = 100


def plain_prompt(problem: WordProblem) -> str:
    return chat_text(PLAIN_PROMPT.format(question=problem.question))


def guided_prompt(problem: WordProblem, hint: str | None = None) -> str:
    """`hint` stands in for the demonstration where given."""
    hint = problem.demonstration if hint is None else hint
    return chat_text(GUIDED_PROMPT.format(question=problem.question, demonstration=hint))


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """An estimate with its 95 % interval and the number of cases that it rests on."""

    name: str
    value: float
    low: float
    high: float
    num_cases: int

    def __str__(self) -> str:
        return f"{self.name:<58} {self.value:6.3f}  [{self.low:6.3f}, {self.high:6.3f}]  n={self.num_cases}"


def share(name: str, claims: Sequence[bool]) -> Figure:
    """Wilson's interval, which stays sensible at 0 and 1."""
    n, z = len(claims), 1.96
    if n == 0:
        return Figure(name=name, value=math.nan, low=math.nan, high=math.nan, num_cases=0)
    p = sum(claims) / n
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return Figure(name=name, value=p, low=(centre - half) / scale, high=(centre + half) / scale, num_cases=n)


def ratio(name: str, numerators: Sequence[float], denominators: Sequence[float]) -> Figure:
    """sum/sum over problems, whose samples or tokens are not independent of each other: delta method."""
    total = sum(denominators)
    value = sum(numerators) / total
    spread = (
        math.sqrt(sum((a - value * b) ** 2 for a, b in zip(numerators, denominators, strict=True))) / total
    )
    return Figure(
        name=name,
        value=value,
        low=value - 1.96 * spread,
        high=value + 1.96 * spread,
        num_cases=len(numerators),
    )


@torch.no_grad()
def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    num_samples: int,
    seed: int,
    greedy: bool = False,
) -> list[list[str]]:
    """`num_samples` completions of each prompt at temperature 1; the end-of-turn token is left out."""
    torch.manual_seed(seed)
    completions: list[list[str]] = []
    how = (
        {"do_sample": False} if greedy else {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    )
    for start in range(0, len(prompts), PROMPTS_PER_BATCH):
        batch = tokenizer(
            list(prompts[start : start + PROMPTS_PER_BATCH]),
            return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False,
        )  # fmt: skip
        ids = model.generate(
            **batch,
            max_new_tokens=MAX_NEW_TOKENS,
            num_return_sequences=num_samples,
            eos_token_id=tokenizer.convert_tokens_to_ids(END_OF_TURN),
            pad_token_id=tokenizer.pad_token_id,
            **how,
        )
        texts = tokenizer.batch_decode(ids[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        completions += [texts[i : i + num_samples] for i in range(0, len(texts), num_samples)]
    return completions


@torch.no_grad()
def logprob_sums(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    completions: Sequence[str],
) -> tuple[list[float], list[int]]:
    """For each pair the completion's summed log-prob, its end of turn included, and its number of tokens."""
    sums, counts = [], []
    for prompt, completion in zip(prompts, completions, strict=True):
        prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        completion_ids = tokenizer(completion + END_OF_TURN, add_special_tokens=False)["input_ids"]
        logits_TV: Tensor = model(input_ids=torch.tensor([prompt_ids + completion_ids])).logits[0]
        logprobs_TV = logits_TV[len(prompt_ids) - 1 : -1].log_softmax(-1)
        sums.append(float(logprobs_TV.gather(1, torch.tensor(completion_ids)[:, None]).sum()))
        counts.append(len(completion_ids))
    return sums, counts


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[WordProblem],
    *,
    seed: int = 0,
) -> list[Figure]:
    plain = sample(model, tokenizer, [plain_prompt(p) for p in problems], num_samples=NUM_SAMPLES, seed=seed)
    num_right = [
        sum(boxed_answer(s) == p.answer for s in texts) for p, texts in zip(problems, plain, strict=True)
    ]
    failed = [p for p, right in zip(problems, num_right, strict=True) if not right]
    guided = _won(model, tokenizer, failed, [guided_prompt(p) for p in failed], seed=seed)
    bare = _won(
        model,
        tokenizer,
        failed,
        [guided_prompt(p, f"The answer is \\boxed{{{p.answer}}}.") for p in failed],
        seed=seed,
    )
    num_failed, num_won = len(failed), sum(bool(texts) for texts in guided)
    sources = (
        ["own"] * (len(problems) - num_failed) + ["guided"] * num_won + ["expert"] * (num_failed - num_won)
    )
    figures = [
        ratio("right per unguided sample", num_right, [NUM_SAMPLES] * len(problems)),
        *(share(f"share {source}", [s == source for s in sources]) for source in ("own", "guided", "expert")),
        share("guided wins where all unguided fail", [bool(texts) for texts in guided]),
        share("  of these, no accepted sample is sound", _unsound(failed, guided)),
        share("bare answer as hint wins where all unguided fail", [bool(texts) for texts in bare]),
        share("  of these, no accepted sample is sound", _unsound(failed, bare)),
        share("own wins without a sound accepted sample", _unsound(problems, _right(problems, plain))),
    ]
    return figures + _by_group(problems, num_right, failed, guided) + _gap(model, tokenizer, problems, plain)


def _right(problems: Sequence[WordProblem], samples: Sequence[list[str]]) -> list[list[str]]:
    return [
        [s for s in texts if boxed_answer(s) == p.answer] for p, texts in zip(problems, samples, strict=True)
    ]


def _won(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[WordProblem],
    prompts: Sequence[str],
    *,
    seed: int,
) -> list[list[str]]:
    """For each problem the samples with the right box."""
    return _right(problems, sample(model, tokenizer, prompts, num_samples=NUM_SAMPLES, seed=seed + 1))


def _unsound(problems: Sequence[WordProblem], accepted: Sequence[list[str]]) -> list[bool]:
    """For each problem with an accepted sample: whether none of them has sound steps."""
    pairs = zip(problems, accepted, strict=True)
    return [not any(is_sound(s, p.question) for s in texts) for p, texts in pairs if texts]


def _by_group(
    problems: Sequence[WordProblem],
    num_right: Sequence[int],
    failed: Sequence[WordProblem],
    guided: Sequence[list[str]],
) -> list[Figure]:
    groups: list[tuple[str, object]] = [("level", level) for level in sorted({p.level for p in problems})]
    groups += [("family", family) for family in sorted({p.family for p in problems})]
    figures = []
    for kind, value in groups:
        right = [n for p, n in zip(problems, num_right, strict=True) if getattr(p, kind) == value]
        won = [bool(texts) for p, texts in zip(failed, guided, strict=True) if getattr(p, kind) == value]
        figures.append(ratio(f"{kind} {value}: right per unguided sample", right, [NUM_SAMPLES] * len(right)))
        figures.append(share(f"{kind} {value}: guided wins", won))
    return figures


def _gap(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[WordProblem],
    plain: Sequence[list[str]],
) -> list[Figure]:
    prompts = [plain_prompt(p) for p in problems]
    own_sums, own_counts = logprob_sums(model, tokenizer, prompts, [texts[0] for texts in plain])
    sums, counts = logprob_sums(model, tokenizer, prompts, [p.demonstration for p in problems])
    own = ratio("log-prob per token: own sample", own_sums, own_counts)
    expert = ratio("log-prob per token: demonstration, plain prompt", sums, counts)
    gap, half = own.value - expert.value, math.hypot(own.high - own.value, expert.high - expert.value)
    name = "log-prob per token: gap"
    return [
        own,
        expert,
        Figure(name=name, value=gap, low=gap - half, high=gap + half, num_cases=len(problems)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a model on the embedded task.")
    parser.add_argument("model_dir", type=Path, nargs="?", default=MODEL_DIR)
    parser.add_argument("--split", type=Split, choices=list(Split), default=Split.HELD_OUT)
    parser.add_argument("--problems", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0, help="of the sampling; the problems stay the same")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = AutoModelForCausalLM.from_pretrained(
        options.model_dir, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained(options.model_dir, trust_remote_code=False)
    print(f"{options.model_dir}, split {options.split}, {NUM_SAMPLES} samples a problem at temperature 1")
    for figure in measure(
        model, tokenizer, list(make_problems(options.split, options.problems)), seed=options.seed
    ):
        print(figure)


if __name__ == "__main__":
    main()
