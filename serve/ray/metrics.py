"""Exports the service's metrics through Ray Serve, which adds the replica's labels."""

from ray.serve import metrics as serve_metrics

from drsft.process.metric_names import SERVICE_METRICS
from drsft.stages.ray_metrics import RayMetrics

__all__ = ["RayServiceMetrics"]


class RayServiceMetrics:
    """`ServiceMetrics` through Ray Serve; use one instance per replica."""

    def __init__(self) -> None:
        self._metrics = RayMetrics(SERVICE_METRICS, classes=serve_metrics)

    def answered(self, *, route: str, status: int, seconds: float) -> None:
        self._metrics.count("drsft_service_requests_total", route=route, status=str(status))
        self._metrics.observe("drsft_service_latency_seconds", seconds, route=route)

    def rejected(self, reason: str) -> None:
        self._metrics.count("drsft_service_refusals_total", reason=reason)

    def in_flight(self, num_tokens: int, *, limit: int) -> None:
        self._metrics.set("drsft_service_tokens_in_flight", num_tokens)
        self._metrics.set("drsft_service_tokens_limit", limit)
