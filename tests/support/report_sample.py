"""A realistic report from a seeded generator, which the other report tests share, and its own consistency."""

import re
from dataclasses import replace
from functools import cache

import numpy as np

from drsft.evaluate.estimators import avg_at_k, pass_at_k
from drsft.evaluate.paired import paired_difference
from drsft.gap.report import GapReport, HeatMap, Token, gap_report, rows_to_show
from drsft.gap.scored_texts import Role
from drsft.records import Outcome, Phase, Source
from drsft.report.cascade_counts import Cascade, CascadePhase
from drsft.report.data import (
    ArmDifference,
    AttemptShown,
    BrowsedRow,
    ComparisonRow,
    LossCurve,
    Prices,
    ProblemCounts,
    QuarantineReason,
    ReportData,
    ShownText,
    StageCost,
    TokenProbabilities,
)
from drsft.report.grounding import GroundingShown, grounding_of
from tests.support.gap import Scored, scored_rows
from tests.support.guided import guided_attempt, guided_record

NUM_PROBLEMS = 512
SEEDS = (0, 1, 2)
ARMS = (
    # name, data, objective, ability in logits, loss at the start and at the end
    ("base", None, None, -0.45, None),
    ("sft", "expert", "sft", -0.25, (1.32, 0.71)),
    ("dft", "expert", "dft", 0.1, (1.32, 0.88)),
    ("dr+sft", "rewritten", "sft", 0.3, (0.62, 0.34)),
    ("dr+dft", "rewritten", "dft", 0.62, (0.62, 0.41)),
)
CONFIG = """\
name: quickstart
seed: 0
problems:
  path: embedded
  limit: 512
target:
  model: embedded
  dtype: float32
  max_model_len: 512
rewrite:
  self_align: {num_samples: 4, wave_size: 2, temperature: 1.0}
  guided: {num_samples: 4, wave_size: 2, temperature: 1.0}
train:
  seeds: [0, 1, 2]
  learning_rate: 5.0e-4
"""


@cache
def sample_report(*, seed: int = 0, num_rows: int = 12) -> ReportData:
    rng = np.random.default_rng(seed)
    comparison, differences = _comparison(rng)
    return ReportData(
        run_id="quickstart-6f1d0c52a7b94e38",
        name="quickstart",
        created="2025-11-21 09:42 UTC",
        config_yaml=CONFIG,
        problems=ProblemCounts(
            num_read=531,
            num_duplicates=12,
            quarantined=(
                QuarantineReason(
                    reason="the reference answer cannot be parsed",
                    num_rows=4,
                    example="train.jsonl, line 87: answer “see the figure”",
                ),
                QuarantineReason(
                    reason="the question is empty", num_rows=2, example="train.jsonl, line 203: problem"
                ),
                QuarantineReason(
                    reason="longer than the model's context", num_rows=1, example="train.jsonl, line 419"
                ),
            ),
        ),
        versions={"drsft": "0.1.0", "torch": "2.13.0", "transformers": "5.19.0", "vllm": "0.32.0"},
        environment={"machine": "2 cores, 23 GB memory", "device": "CPU", "python": "3.11.2"},
        cascade=_cascade(),
        grounding=_grounding(rng),
        costs=(
            StageCost(name="rewrite", num_tokens=125_025, wall_s=118.2, worker_s=118.2, gpu_hours=0.0328),
            StageCost(name="gap", num_tokens=81_204, wall_s=14.9, worker_s=14.9, gpu_hours=0.0041),
            StageCost(name="train", num_tokens=512_400, wall_s=204.0, worker_s=408.0, gpu_hours=0.1133),
            StageCost(name="evaluate", num_tokens=4_495_360, wall_s=690.5, worker_s=690.5, gpu_hours=0.1918),
        ),
        prices=Prices(per_gpu_hour=2.5),
        comparison=comparison,
        differences=differences,
        gap=_gap(rng),
        losses=tuple(_loss_curve(rng, arm, s, ends) for arm, *_, ends in ARMS if ends for s in SEEDS),
        probabilities=tuple(_probabilities(rng, arm, ends) for arm, *_, ends in ARMS if ends),
        rows=tuple(_browsed(rng, index) for index in range(num_rows)),
    )


def _comparison(rng: np.random.Generator) -> tuple[tuple[ComparisonRow, ...], tuple[ArmDifference, ...]]:
    difficulty_P = rng.normal(0, 1.6, 200)
    outcomes = {}
    for arm, _, _, ability, _ in ARMS:
        seeds = 1 if arm == "base" else len(SEEDS)
        logits_SP = ability - difficulty_P + rng.normal(0, 0.07, (seeds, 1))
        outcomes[arm] = rng.random((seeds, 200, 16)) < 1 / (1 + np.exp(-logits_SP))[..., None]
    rows = []
    for arm, data, objective, _, _ in ARMS:
        estimate = avg_at_k(outcomes[arm])
        rows.append(
            ComparisonRow(
                arm=arm,
                data=data,
                objective=objective,
                benchmark="held-out",
                avg_at_k=estimate.value,
                low=estimate.low,
                high=estimate.high,
                k=16,
                num_problems=200,
                seeds=() if arm == "base" else SEEDS,
                seed_values=() if arm == "base" else estimate.seed_values,
                pass_at_k=pass_at_k(outcomes[arm], 8).value,
                pass_k=8,
                truncated_share=float(rng.uniform(0.002, 0.03)),
                no_answer_share=float(rng.uniform(0.0, 0.02)),
                unjudged_share=0.0,
                maj_at_k=estimate.value,
                mean_tokens=112.4,
                num_overlapping=3,
                num_clean=198,
                clean_avg_at_k=estimate.value,
            )
        )
    pairs = [("dr+dft", other) for other in ("base", "sft", "dft", "dr+sft")] + [("dr+sft", "sft")]
    return tuple(rows), tuple(
        ArmDifference(
            arm=arm,
            other=other,
            benchmark="held-out",
            difference=paired_difference(outcomes[arm], outcomes[other], num_resamples=2000),
        )
        for arm, other in pairs
    )


def _grounding(rng: np.random.Generator) -> GroundingShown | None:
    surprises = [float(rng.gamma(2, 2)) for _ in range(60)]
    records = [
        guided_record(
            guided_attempt(
                -surprise, is_accepted=surprise <= 7, expert_mean_logprob=-1.5 if index % 2 else None
            ),
            problem_id=f"p{index}",
            question="How many are 2 < 3?",
        )
        for index, surprise in enumerate(surprises)
    ]
    return grounding_of(records, num_examples=3)


def _cascade() -> Cascade:
    return Cascade(
        phases=(
            CascadePhase(
                phase=Phase.SELF_ALIGN,
                num_problems=NUM_PROBLEMS,
                num_solved=287,
                num_samples=1418,
                num_tokens=86_904,
                worker_s=82.2,
                outcomes={
                    Outcome.CORRECT: 391,
                    Outcome.WRONG: 934,
                    Outcome.NO_ANSWER: 58,
                    Outcome.TRUNCATED: 33,
                    Outcome.UNJUDGED: 2,
                },
                reasons={
                    "answer differs from the reference": 934,
                    "no boxed answer": 58,
                    "stopped at the token limit": 33,
                    "the verifier ran out of time": 2,
                },
            ),
            CascadePhase(
                phase=Phase.GUIDED,
                num_problems=225,
                num_solved=153,
                num_samples=582,
                num_tokens=38_121,
                worker_s=36.0,
                outcomes={Outcome.CORRECT: 201, Outcome.WRONG: 352, Outcome.NO_ANSWER: 29},
                reasons={"answer differs from the reference": 352, "no boxed answer": 29},
            ),
        ),
        sources={Source.OWN: 287, Source.REWRITTEN: 153, Source.EXPERT: 72},
    )


def _scored(rng: np.random.Generator, problem: int, source: str, level: float, role: Role) -> Scored:
    length = int(rng.integers(30, 80))
    row_level = level * float(rng.lognormal(0, 0.25))
    return Scored(
        row_id=f"p{problem}",
        source=source,
        role=role,
        logprobs=-rng.exponential(row_level, length),
        entropy=min(row_level, 0.6),
    )


def _gap(rng: np.random.Generator) -> GapReport:
    sources = ["own"] * 287 + ["rewritten"] * 153 + ["expert"] * 72
    experts = [_scored(rng, problem, "expert", 1.25, Role.DEMONSTRATION) for problem in range(NUM_PROBLEMS)]
    levels = {"own": 0.42, "rewritten": 0.63}
    kept = [
        replace(experts[problem], role=Role.KEPT)
        if source == "expert"
        else _scored(rng, problem, source, levels[source], Role.KEPT)
        for problem, source in enumerate(sources)
    ]
    rows = scored_rows([*kept, *experts])
    tokens = tuple(Token(text=f"{n}+", logprob=-float(n), entropy=0.5) for n in range(8))
    heat = HeatMap(row=rows_to_show(rows)[0], tokens=tokens)
    return replace(gap_report(model="embedded", rows=rows), heat_maps=(heat,))


def _loss_curve(rng: np.random.Generator, arm: str, seed: int, ends: tuple[float, float]) -> LossCurve:
    start, end = ends
    points = [
        (step, float(end + (start - end) * np.exp(-step / 60) + rng.normal(0, 0.02)))
        for step in range(1, 241)
    ]
    return LossCurve(arm=arm, seed=seed, points=tuple(points))


def _probabilities(rng: np.random.Generator, arm: str, ends: tuple[float, float]) -> TokenProbabilities:
    edges = np.linspace(-6, 0, 25)
    before, after = (
        np.histogram(np.clip(-(rng.exponential(2.2 * end, 16_000) ** 1.6) / 2.3, -6, 0), bins=edges)[0]
        for end in ends
    )
    return TokenProbabilities(
        arm=arm,
        log10_edges=tuple(edges.tolist()),
        before=tuple(before.tolist()),
        after=tuple(after.tolist()),
    )


def _browsed(rng: np.random.Generator, index: int) -> BrowsedRow:
    name = ("Ann", "Ben", "Chloë", "Dmitri", "Ewa", "Farid")[index % 6]
    thing = ("cups", "marbles", "stamps", "apples")[index % 4]
    have, gets, gives = (int(number) for number in rng.integers(11, 60, 3))
    total = have + gets - min(gives, have)
    gives = min(gives, have)
    source = (Source.OWN, Source.REWRITTEN, Source.OWN, Source.EXPERT)[index % 4]
    own = f"{have}+{gets}={have + gets}; {have + gets}-{gives}={total}; \\boxed{{{total}}}"
    wrong = (
        f"{have}+{gets}={have + gets + 10}; {have + gets + 10}-{gives}={total + 10}; \\boxed{{{total + 10}}}"
    )
    attempts = [_attempt(Phase.SELF_ALIGN, Outcome.WRONG, wrong, str(total + 10))]
    if source is Source.EXPERT:
        attempts.append(_attempt(Phase.GUIDED, Outcome.TRUNCATED, f"{have}+{gets}=" * 9, None))
    else:
        phase = Phase.SELF_ALIGN if source is Source.OWN else Phase.GUIDED
        attempts.append(_attempt(phase, Outcome.CORRECT, own, str(total)))
    expert = (
        f"Starting from {have} {thing}, receiving {gets} more brings {name} to {have + gets}. After parting "
        f"with {gives} of them, {name} is left with {have + gets} − {gives} = {total}. "
        f"The answer is \\boxed{{{total}}}."
    )
    return BrowsedRow(
        problem_id=f"{rng.bytes(10).hex()}",
        question=f"{name} has {have} {thing}, gets {gets} more and gives {gives} away. "
        f"How many {thing} does {name} have now?",
        reference=str(total),
        expert=_shaded(rng, expert, 1.6),
        kept=None if source is Source.EXPERT else _shaded(rng, own, 0.4),
        source=source,
        reason="no sample passed" if source is Source.EXPERT else "equal as numbers",
        attempts=tuple(attempts),
    )


def _shaded(rng: np.random.Generator, text: str, level: float) -> ShownText:
    pieces = tuple(re.findall(r"\s?\S{1,4}", text))
    phis = tuple((0.3 - rng.exponential(level, len(pieces))).tolist())
    return ShownText(text="".join(pieces), pieces=pieces, phis=phis)


def _attempt(phase: Phase, outcome: Outcome, text: str, answer: str | None) -> AttemptShown:
    reasons = {
        Outcome.CORRECT: "equal as numbers",
        Outcome.WRONG: "answer differs from the reference",
        Outcome.TRUNCATED: "stopped at the token limit",
    }
    return AttemptShown(
        phase=phase, outcome=outcome, reason=reasons[outcome], text=text, num_tokens=len(text), answer=answer
    )


def test_the_sample_is_seeded_and_adds_up() -> None:
    report = sample_report()
    assert report == sample_report.__wrapped__()
    assert report.cascade is not None
    assert report.cascade.num_kept == report.problems.num_usable == NUM_PROBLEMS
    assert report.cascade.phases[0].num_problems - report.cascade.phases[0].num_solved == 225
    for stage in report.cascade.phases:
        assert sum(stage.outcomes.values()) == stage.num_samples
    assert report.gap is not None
    assert report.gap.summary.improvement is not None
    assert report.gap.summary.improvement.num_problems == 287 + 153
