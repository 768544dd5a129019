"""Defines the names of the Prometheus metrics that runs and services export; docs/metrics.md lists them too.

Ray exports them with the prefix `ray_`. Labels have few values: the shard and the problem are found in logs
and records instead.
"""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["METRICS", "RUN_METRICS", "SERVICE_METRICS", "Kind", "Metric"]


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()  # of a histogram's buckets

    @property
    def exported_names(self) -> tuple[str, ...]:
        """The metric's names in Prometheus: with Ray's prefix, and three for a histogram."""
        suffixes = ("_bucket", "_sum", "_count") if self.kind is Kind.HISTOGRAM else ("",)
        return tuple(f"ray_{self.name}{suffix}" for suffix in suffixes)


def _counter(name: str, meaning: str, *labels: str) -> Metric:
    return Metric(name=f"drsft_{name}_total", kind=Kind.COUNTER, meaning=meaning, labels=labels)


def _gauge(name: str, meaning: str, *labels: str) -> Metric:
    return Metric(name=f"drsft_{name}", kind=Kind.GAUGE, meaning=meaning, labels=labels)


STAGE, JOB = ("run", "stage"), ("run", "arm", "seed")

RUN_METRICS = (
    _gauge("stage_running", "1 while a stage runs, 0 when it has ended", *STAGE),
    _gauge("stage_done_ratio", "how much of the stage is done, 0 to 1", *STAGE),
    _counter("problems", "problems that a stage has done; training counts steps", *STAGE),
    _counter("rollouts", "samples drawn by rewriting and evaluation", *STAGE),
    _counter("tokens", "tokens of the samples drawn by rewriting and evaluation", *STAGE),
    _counter("sources", "records by where their text comes from", "run", "source"),
    _counter(
        "verdicts",
        "verdicts on rewriting's samples",
        "run",
        "cascade_stage",
        "outcome",
        "reason",
    ),
    _counter("shard_commits", "shards committed", *STAGE),
    _gauge("last_commit_timestamp_seconds", "when a shard was committed last, or the stage began", *STAGE),
    _counter("engine_seconds", "seconds that engines have existed, summed over engines", *STAGE),
    _counter(
        "engine_busy_seconds", "seconds with at least one sample in flight, summed over engines", *STAGE
    ),
    _counter("engine_deaths", "engines that died and were replaced", *STAGE),
    _gauge("training_step", "steps done", *JOB),
    _gauge(
        "training_loss",
        "loss of the last step, as defined in docs/objectives.md; NaN ends the training",
        *JOB,
    ),
    _gauge("training_effective_sample_size", "share of tokens that the weights leave in effect", *JOB),
    _gauge("training_clip_share", "share of tokens whose weight a limit decided", *JOB),
    _gauge("training_tokens_per_second", "tokens a second in the last step, all workers together", *JOB),
    _gauge(
        "training_checkpoint_timestamp_seconds", "when a checkpoint was saved last, or training began", *JOB
    ),
)

SERVICE_METRICS = (
    _counter("service_requests", "responses, by route and HTTP status", "route", "status"),
    Metric(
        name="drsft_service_latency_seconds",
        kind=Kind.HISTOGRAM,
        meaning="seconds from a request to the end of its response",
        labels=("route",),
        bounds=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120),
    ),
    _counter("service_refusals", "rejected requests, by reason: full, requests, tokens, waiting", "reason"),
    _gauge("service_tokens_in_flight", "estimated tokens of admitted requests in flight"),
    _gauge("service_tokens_limit", "limits.tokens_in_flight of the replica"),
)

METRICS = (*RUN_METRICS, *SERVICE_METRICS)
