"""Where the traces of problems go."""

from pydantic import Field

from drsft.config.base import Frozen

__all__ = ["Traces"]


class Traces(Frozen):
    """One trace for a problem: its phases, samples and verdicts, and how long each took."""

    endpoint: str = Field(
        pattern=r"^https?://[^\s@]+$", description="an OTLP/HTTP collector, such as http://collector:4318"
    )
    share: float = Field(1.0, gt=0, le=1, description="of the problems, chosen at random")
