"""Settings of where the traces of problems are sent."""

from pydantic import Field

from drsft.config.base import Frozen

__all__ = ["Traces"]


class Traces(Frozen):
    """Sends one trace for each chosen problem: its phases, samples and verdicts, and how long each took."""

    endpoint: str = Field(
        pattern=r"^https?://[^\s@]+$", description="an OTLP/HTTP collector, such as http://collector:4318"
    )
    share: float = Field(
        1.0, gt=0, le=1, description="share of the problems that is traced, chosen at random"
    )
