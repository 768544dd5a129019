"""Settings of the report: prices."""

from pydantic import Field

from drsft.config.base import Frozen

__all__ = ["Report"]


class Report(Frozen):
    """The price of a GPU hour. These settings never change a run's name.

    `drsft report CONFIG report.price_per_gpu_hour=2.5` prices a finished run.
    """

    price_per_gpu_hour: float | None = Field(None, ge=0, description="null: no price is shown")
    currency: str = Field("USD", min_length=1, max_length=8)
