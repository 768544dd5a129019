"""Sends spans to the OpenTelemetry collector that `traces` of the run or of the service names."""

from collections.abc import Callable

from drsft.config import Traces
from drsft.errors import SetupError
from drsft.process.tracing import trace_to

__all__ = ["check_can_export", "export_traces"]

PATIENCE_S = 2.0


def check_can_export() -> None:
    """Raises SetupError if OpenTelemetry's packages are missing.

    The driver calls it before any actor starts.
    """
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter
        import opentelemetry.sdk.trace  # noqa: F401
    except ImportError as error:
        raise SetupError(f"traces need OpenTelemetry: pip install 'drsft[traces]' ({error})") from error


def export_traces(traces: Traces, **of: str) -> Callable[[], bool]:
    """Sends this process's spans to the collector in batches, and returns a function that flushes them.

    All spans have the labels `of`: run and stage. Call the function when a shard is committed, since an actor
    may be ended at any time after its work. If the collector does not answer, the call takes two seconds, and
    the shard's spans are lost, which is logged; the work continues.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(traces.share)),
        resource=Resource.create({"service.name": "drsft"} | {f"drsft.{name}": of[name] for name in of}),
    )
    exporter = OTLPSpanExporter(endpoint=f"{traces.endpoint.rstrip('/')}/v1/traces", timeout=PATIENCE_S)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace_to(provider.get_tracer("drsft"))
    return provider.force_flush
