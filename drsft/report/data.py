"""Everything that the report shows, as frozen records.

A part that a run does not have (no training yet, no gap report) is empty or None, and the page says so.
Shares are in 0..1, log-probs in nats, lengths in tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from drsft.evaluate.paired import PairedDifference
from drsft.gap.filtering import FilterCounts
from drsft.gap.report import GapReport
from drsft.records import Outcome, Phase, Source
from drsft.report.cascade_counts import Cascade
from drsft.report.grounding import GroundingShown

__all__ = [
    "ArmDifference",
    "AttemptShown",
    "BrowsedRow",
    "ComparisonRow",
    "LossCurve",
    "Prices",
    "ProblemCounts",
    "QuarantineReason",
    "ReportData",
    "RoundScore",
    "RoundShown",
    "ShownText",
    "StageCost",
    "StageDone",
    "TokenProbabilities",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineReason:
    """How many rows were set aside for one reason; `example` names one of them (file, line, field)."""

    reason: str
    num_rows: int
    example: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemCounts:
    num_read: int  # rows in the files, before anything was dropped
    num_duplicates: int = 0
    quarantined: tuple[QuarantineReason, ...] = ()

    @property
    def num_quarantined(self) -> int:
        return sum(reason.num_rows for reason in self.quarantined)

    @property
    def num_usable(self) -> int:
        return self.num_read - self.num_duplicates - self.num_quarantined


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCost:
    """The cost of one stage of the run; None for values that its commits do not store."""

    name: str  # "rewrite", "gap", "train" or "evaluate"
    num_tokens: int | None = None  # sampled, scored or trained on
    wall_s: float | None = None  # from the first worker's start to the last one's end
    worker_s: float | None = None  # time at work, summed over workers
    gpu_hours: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    per_gpu_hour: float | None = None  # None: no money is shown
    currency: str = "USD"

    def of(self, cost: StageCost) -> float | None:
        """Returns the price of a stage in the currency; None if the price or the hours are unknown."""
        if self.per_gpu_hour is None or cost.gpu_hours is None:
            return None
        return self.per_gpu_hour * cost.gpu_hours


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonRow:
    """The scores of one arm on one benchmark.

    `low` and `high` bound avg@k at 95 %, over problems and training seeds. A problem of the benchmark is
    clean when no training problem overlaps with it (docs/evaluation.md).
    """

    arm: str  # "base" for the untrained target
    data: str | None  # "expert", "self_only", "rewritten", "hinted"; None for base
    objective: str | None  # "sft", "dft"; None for base
    benchmark: str
    avg_at_k: float
    low: float
    high: float
    k: int
    num_problems: int
    seeds: tuple[int, ...] = ()  # training seeds; empty for base
    seed_values: tuple[float, ...] = ()  # avg@k of each seed
    pass_at_k: float | None = None
    pass_k: int | None = None  # the k of pass@k
    truncated_share: float | None = None  # of samples
    no_answer_share: float | None = None  # of samples
    unjudged_share: float | None = None  # of samples
    maj_at_k: float | None = None  # None where answers cannot be compared, as with code
    mean_tokens: float | None = None  # of a sample
    num_overlapping: int | None = None  # training problems that overlap with the benchmark
    num_clean: int | None = None  # problems of the benchmark
    clean_avg_at_k: float | None = None  # on these alone


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmDifference:
    """The score of `arm` minus that of `other` on a benchmark, paired by problem; the report's headline uses
    it.
    """

    arm: str
    other: str
    benchmark: str
    difference: PairedDifference


@dataclass(frozen=True, slots=True, kw_only=True)
class LossCurve:
    """Cross-entropy by step, nats per token (weighted losses of different objectives are not comparable)."""

    arm: str
    seed: int
    points: tuple[tuple[int, float], ...]  # (step, loss)
    data: str = ""
    objective: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenProbabilities:
    """How many of an arm's training tokens have which probability under the model, before and after training.

    There is one count per bin of log10 p, added over all seeds.
    """

    arm: str
    log10_edges: tuple[float, ...]  # of p; the first bin takes what is below, too
    before: tuple[int, ...]
    after: tuple[int, ...]

    def share_below(self, log10_p: float, counts: tuple[int, ...]) -> float:
        """Returns the share of tokens with log10 p below `log10_p`, which must be an edge of the bins.

        `counts` are the bins before or after training.
        """
        below = sum(n for n, high in zip(counts, self.log10_edges[1:], strict=True) if high <= log10_p)
        return below / max(sum(counts), 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptShown:
    phase: Phase
    outcome: Outcome
    reason: str  # the verdict's, or why a right sample was rejected
    text: str
    num_tokens: int
    answer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownText:
    """A text and, if it was scored, its tokens: `pieces` joined are `text`, `phis` are in nats."""

    text: str
    pieces: tuple[str, ...] = ()
    phis: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BrowsedRow:
    """One problem on the page: the expert's text beside the kept one, and every attempt."""

    problem_id: str
    question: str
    reference: str
    expert: ShownText
    kept: ShownText | None  # None where that is the expert's text, or nothing
    source: Source
    reason: str  # of the kept text's verdict, or why the expert's text was kept
    attempts: tuple[AttemptShown, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundScore:
    """The benchmark score, after a round, of the arm whose training becomes the next round's target.

    `change` is the difference to the previous round, paired by problem.
    """

    benchmark: str
    avg_at_k: float
    low: float
    high: float
    change: PairedDifference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundShown:
    """The numbers of one round of rewriting and training.

    Tokens are the target's. `num_carried` counts the records that the round took over unchanged from the
    previous one, `num_tokens_saved` the tokens that earlier rounds had sampled for them.
    """

    number: int
    prefix: str  # of its own report, below the run; empty for the first
    sources: Mapping[Source, int]  # kept rows, carried ones included
    num_rewritten: int
    num_carried: int
    num_tokens: int
    num_tokens_saved: int
    scores: tuple[RoundScore, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StageDone:
    """The progress of a stage: how many of its units of work, such as shards, are done."""

    name: str
    unit: str  # "shard", "training"
    num_done: int
    num_in_all: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    run_id: str
    name: str
    created: str  # ISO 8601, with its zone
    config_yaml: str
    problems: ProblemCounts
    progress: tuple[StageDone, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(
        default_factory=dict
    )  # of the data and the model, by what it is of
    cascade: Cascade | None = None
    grounding: GroundingShown | None = None  # of the rows that the page carries
    num_thought_tokens: int = 0  # of the cascade's sampled tokens, those before the answers
    costs: tuple[StageCost, ...] = ()
    prices: Prices = Prices()
    comparison: tuple[ComparisonRow, ...] = ()
    differences: tuple[ArmDifference, ...] = ()
    gap: GapReport | None = None
    filtered: tuple[FilterCounts, ...] = ()
    losses: tuple[LossCurve, ...] = ()
    probabilities: tuple[TokenProbabilities, ...] = ()
    rows: tuple[BrowsedRow, ...] = ()  # the first ones, where there are more
    rounds: tuple[RoundShown, ...] = ()  # empty for a run with one round
