"""The operator's settings of the service: model, recipe, callers and their limits."""

from pathlib import Path

from pydantic import Field, model_validator

from drsft.config import Resources, Rewrite, Target, Traces
from drsft.config.base import Frozen

__all__ = ["Access", "Limits", "ServeConfig"]


class Access(Frozen):
    """Settings of the callers and their keys.

    Keys are stored as hashes in a file that may change while the service runs.
    """

    keys_file: str | None = Field(
        None, description="file with a line for each key; `drsft serve-key NAME` makes one"
    )
    open_on_loopback: bool = Field(False, description="serve without keys; rejected on any other address")
    requests_per_minute: int = Field(
        600, ge=1, description="requests per minute of one key, unless its line says otherwise"
    )
    tokens_per_minute: int = Field(
        1_000_000, ge=1, description="tokens per minute of one key, prompt and sampled together"
    )
    cors_origins: tuple[str, ...] = Field((), description="origins of other web pages that may call (CORS)")

    @model_validator(mode="after")
    def is_one_of_both(self) -> "Access":
        if self.open_on_loopback and self.keys_file is not None:
            raise ValueError("keys_file needs open_on_loopback: false; with true the service takes no keys")
        if not self.open_on_loopback and self.keys_file is None:
            raise ValueError("set keys_file, or open_on_loopback: true for this machine alone")
        return self

    @property
    def keys_path(self) -> Path:
        return Path(self.keys_file or "").expanduser()


class Limits(Frozen):
    """Limits of a single request, and of all requests together."""

    body_bytes: int = Field(256 << 10, ge=1024)
    problem_chars: int = Field(20_000, ge=1)
    solution_chars: int = Field(100_000, ge=1)
    reference_chars: int = Field(2_000, ge=1)
    batch_problems: int = Field(64, ge=1)
    num_samples: int = Field(16, ge=1, description="most samples that a request may ask for, in each phase")
    deadline_s: float = Field(120, gt=0, description="the longest that a request may take, and the default")
    tokens_in_flight: int = Field(
        200_000, ge=1, description="estimated tokens admitted at once; beyond it 429"
    )
    remembered_results: int = Field(10_000, ge=0, description="number of results kept for repeated requests")
    remembered_mib: int = Field(64, ge=1, description="size of all such results together, as JSON")
    remembered_s: float = Field(3600, gt=0, description="how long such a result is reused")
    resumable_s: float = Field(60, gt=0, description="how long a broken stream can be resumed")


class ServeConfig(Frozen):
    """All settings of the service: the `args` of serve.yaml."""

    target: Target
    rewrite: Rewrite = Rewrite()
    seed: int = 0
    access: Access
    limits: Limits = Limits()
    score_phi: bool = Field(
        False, description="score phi on request; loads the target's weights once more, beside the engines"
    )
    verify_code: bool = Field(
        False, description="judge problems of kind code; programs run in a sandbox on the ingress"
    )
    verify_workers: int = Field(1, ge=1, description="verifier processes of one ingress replica")
    resources: Resources = Field(Resources(), description="rewrite_actors are the engine replicas")
    traces: Traces | None = Field(None, description="traces of requests, one by one; null: none")
    ingress_replicas: int = Field(1, ge=1)
    start_before_stop: bool = Field(
        False,
        description="on a change, a new replica starts before the old ones stop; needs room "
        "for one more engine",
    )
    cpus_per_ingress: float = Field(0.5, ge=0)
    drain_s: float = Field(
        150, gt=0, description="how long a replica may finish its requests; must exceed deadline_s"
    )

    @model_validator(mode="after")
    def can_select(self) -> "ServeConfig":
        if self.rewrite.selection == "closest" and not self.score_phi:
            raise ValueError("rewrite.selection: closest needs score_phi: true")
        if self.rewrite.teachers:
            raise ValueError("rewrite.teachers: the service cannot ask teachers; leave this key out")
        if self.rewrite.is_hinted:
            raise ValueError("rewrite.method: the service has no Hinted Decoding; set it to guided")
        if self.rewrite.stop_beaten:
            raise ValueError("rewrite.stop_beaten: the service finishes every sample; leave this key out")
        return self

    @model_validator(mode="after")
    def drains_past_the_longest_request(self) -> "ServeConfig":
        if self.drain_s <= self.limits.deadline_s:
            raise ValueError(
                f"drain_s ({self.drain_s:g}) must be above limits.deadline_s ({self.limits.deadline_s:g}), "
                "or requests are cut off whenever a replica stops"
            )
        return self
