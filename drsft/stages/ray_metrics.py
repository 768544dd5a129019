"""Exports metrics through Ray: a node's agent exports what its processes count, and Prometheus scrapes the
agents.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ray.util import metrics as ray_metrics

from drsft.process.metric_names import Kind, Metric

__all__ = ["RayMetrics"]


class RayMetrics:
    """Sets the given metrics in this process; `labels` are added to every value. Make one per process."""

    def __init__(
        self,
        metrics: Iterable[Metric],
        labels: Mapping[str, str] | None = None,
        *,
        classes: Any = ray_metrics,
    ) -> None:
        """`classes` is the module that has Counter, Gauge and Histogram: Ray's own, or Ray Serve's."""
        self._labels = dict(labels or {})
        self._made: dict[str, Any] = {metric.name: _make(metric, classes) for metric in metrics}

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        if amount > 0:
            self._made[name].inc(amount, self._labels | labels)

    def set(self, name: str, value: float, **labels: str) -> None:
        self._made[name].set(value, self._labels | labels)

    def observe(self, name: str, value: float, **labels: str) -> None:
        self._made[name].observe(value, self._labels | labels)


def _make(metric: Metric, classes: Any) -> Any:
    options: dict[str, Any] = {"description": metric.meaning, "tag_keys": metric.labels}
    match metric.kind:
        case Kind.COUNTER:
            return classes.Counter(metric.name, **options)
        case Kind.GAUGE:
            return classes.Gauge(metric.name, **options)
        case Kind.HISTOGRAM:
            return classes.Histogram(metric.name, boundaries=list(metric.bounds), **options)
