"""The whole configuration of a run, and the fingerprint that names the run.

A run is identified by its records: its fingerprint covers the settings that they depend on. Trainings and
evaluations are stored inside the run, each named by a fingerprint of its own settings (config/training.py,
config/evaluation.py), so another arm, seed or benchmark can be added to the run and reuses everything already
computed. `resources`, `storage`, `report` and `name` change nothing that is computed.
"""

from dataclasses import dataclass

from pydantic import Field, model_validator

from drsft.config.base import Frozen, fingerprint
from drsft.config.data import Problems
from drsft.config.evaluation import Evaluate
from drsft.config.reporting import Report
from drsft.config.rewriting import Rewrite
from drsft.config.rounds import Rounds
from drsft.config.sampling import SamplingPhase
from drsft.config.target import Target
from drsft.config.tracing import Traces
from drsft.config.training import Arm, DataView, Train

__all__ = ["Resources", "RunConfig", "WorkerShare"]

NODE_GROUP = r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$"  # what Kubernetes allows as a label's value


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerShare:
    """How many workers of one kind there are, and the processors and GPUs that each of them takes."""

    num_workers: int
    cpus: float
    gpus: float


class Resources(Frozen):
    """The engines, workers, processors and GPUs that a run may use; changing them never changes the run's
    directory.
    """

    rewrite_actors: int | None = Field(
        None,
        ge=1,
        description="engines that rewrite and evaluate side by side; null: as many as GPUs, or processors "
        "and memory, allow (docs/engines.md)",
    )
    rewrite_group: str | None = Field(
        None,
        pattern=NODE_GROUP,
        description="only on Ray nodes with the label drsft.io/group=NAME; null is any node",
    )
    cpus_per_actor: float | None = Field(
        None, gt=0, description="an engine's threads on a CPU; null: by the model's size"
    )
    gpus_per_actor: float | None = Field(
        None, ge=0, description="null: the GPUs that the engine is spread over, if there are GPUs"
    )
    verify_workers_per_actor: int = Field(1, ge=1)
    problems_in_flight_per_actor: int = Field(
        256,
        ge=1,
        description="problems sampled at once; should exceed what the engine decodes at once, or it idles",
    )
    shards_in_flight_per_actor: int = Field(
        16, ge=1, description="shards from which these problems come; a shard waits for its slowest problem"
    )
    train_workers: int | None = Field(
        None, ge=1, description="null: one for each GPU of the node that has most, else one"
    )
    max_train_workers: int | None = Field(
        None,
        ge=1,
        description="elastic training: between train_workers and this number, as the cluster has capacity",
    )
    train_shards: int | None = Field(
        None,
        ge=1,
        description="workers that share one copy of a training's state, best those of one node; "
        "null: all (docs/training.md)",
    )
    train_group: str | None = Field(
        None, pattern=NODE_GROUP, description="the same as rewrite_group, for the training's workers"
    )
    cpus_per_train_worker: float = Field(1, gt=0)
    gpus_per_train_worker: float | None = Field(None, ge=0, description="null: one, if there are GPUs")
    max_train_failures: int = Field(3, ge=0)
    lease_wait_s: float = Field(
        0, ge=0, description="how long to wait for another driver of the same run to finish"
    )
    drain_s: float = Field(
        20,
        ge=0,
        description="after SIGTERM: how long running work may take to be committed",
    )
    stalled_after_s: float | None = Field(
        1800,
        gt=0,
        description="a rewriting actor with work is replaced when for so long no engine has made a step and "
        "no sample has begun, ended or been judged; null: never",
    )
    dashboard_port: int | None = Field(
        None, ge=1, le=65535, description="show Ray's dashboard of a local cluster on this loopback port"
    )

    @model_validator(mode="after")
    def workers_are_a_range(self) -> "Resources":
        if self.max_train_workers is not None and self.max_train_workers < (self.train_workers or 1):
            raise ValueError(
                f"max_train_workers ({self.max_train_workers}) must be at least train_workers "
                f"({self.train_workers or 1})"
            )
        return self

    @model_validator(mode="after")
    def copies_are_whole(self) -> "Resources":
        num_workers = self.train_workers if self.max_train_workers is None else None
        if self.train_shards and num_workers and num_workers % self.train_shards:
            raise ValueError(
                f"train_workers ({num_workers}) must be a multiple of train_shards ({self.train_shards})"
            )
        return self

    def shards_of(self, num_workers: int) -> int:
        """Returns how many of `num_workers` workers hold one copy of the model and optimiser state together.

        This is `train_shards` if it divides `num_workers`, else all workers. The number of workers can change
        during an elastic training.
        """
        shards = self.train_shards or num_workers
        return num_workers if num_workers % shards else shards

    def with_defaults_from(self, other: "Resources") -> "Resources":
        """Returns these resources, with settings that are null taken from `other`."""
        given = {name: value for name, value in self if value is not None}
        return other.model_copy(update=given)

    @property
    def engine_share(self) -> WorkerShare:
        """The number of engines, and the processors and GPUs of each.

        A setting that is null counts as one engine on one processor: a run replaces all nulls before its
        stages start.
        """
        return WorkerShare(
            num_workers=self.rewrite_actors or 1, cpus=self.cpus_per_actor or 1, gpus=self.gpus_per_actor or 0
        )

    @property
    def train_share(self) -> WorkerShare:
        """The number of workers of a training, and the CPUs and GPUs of each.

        If `train_workers` is null, it counts as 1; if `gpus_per_train_worker` is null, it counts as 0.
        """
        return WorkerShare(
            num_workers=self.train_workers or 1,
            cpus=self.cpus_per_train_worker,
            gpus=self.gpus_per_train_worker or 0,
        )


class RunConfig(Frozen):
    name: str = Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$", max_length=60)
    storage: str = Field("runs", min_length=1, description="a folder, or s3://bucket/prefix")
    seed: int = 0
    problems: Problems
    target: Target
    rewrite: Rewrite = Rewrite()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    rounds: Rounds = Rounds()
    report: Report = Report()
    traces: Traces | None = Field(None, description="traces of rewriting, problem by problem; null: none")
    resources: Resources = Resources()

    @model_validator(mode="after")
    def lengths_fit(self) -> "RunConfig":
        rewrite, limit = self.rewrite, self.target.max_model_len
        phases: dict[str, SamplingPhase] = {"self_align": rewrite.self_align}
        phases |= {"guided": rewrite.guided} if rewrite.is_guided else {}
        phases |= {"hinted": rewrite.hinted} if rewrite.is_hinted else {}
        for name, phase in phases.items():
            if phase.num_samples and phase.max_tokens >= limit:
                raise ValueError(
                    f"rewrite.{name}.max_tokens ({phase.max_tokens}) must be below "
                    f"target.max_model_len ({limit})"
                )
        return self

    @model_validator(mode="after")
    def has_a_judge(self) -> "RunConfig":
        if self.problems.kind == "judge" and self.rewrite.verification.judge is None:
            raise ValueError(
                "problems.kind: judge needs a model; set rewrite.verification.judge: {model: …, url: …}"
            )
        return self

    @model_validator(mode="after")
    def has_benchmarks_to_decontaminate_against(self) -> "RunConfig":
        if self.problems.decontaminate and not self.evaluate.benchmarks:
            raise ValueError(
                "problems.decontaminate is set, but evaluate.benchmarks names no benchmark; name one there, "
                "or leave decontaminate out"
            )
        return self

    @model_validator(mode="after")
    def hinted_data_is_made(self) -> "RunConfig":
        hinted = [arm.name for arm in self.train.arms if arm.data is DataView.HINTED]
        if hinted and self.rewrite.method != "hinted" and not self.rewrite.hinted_beside:
            raise ValueError(
                f"arm {hinted[0]!r} trains on hinted data; set rewrite.hinted_beside: true "
                "(or rewrite.method: hinted)"
            )
        if hinted and self.train.filter:
            raise ValueError(
                f"train.filter needs scores of the gap report, which has none for arm {hinted[0]!r}; leave "
                "the filter or the arm out"
            )
        return self

    @model_validator(mode="after")
    def rounds_follow_an_arm(self) -> "RunConfig":
        rewriting = {arm.name for arm in self.train.arms if arm.data is DataView.REWRITTEN}
        if self.rounds.count > 1 and not rewriting:
            raise ValueError("several rounds need an arm in train.arms with data: rewritten")
        if self.rounds.arm is not None and self.rounds.arm not in rewriting:
            known = ", ".join(sorted(rewriting)) or "none"
            raise ValueError(f"rounds.arm {self.rounds.arm!r} is not an arm with data: rewritten ({known})")
        return self

    @property
    def followed_arm(self) -> Arm:
        """The arm whose trained model becomes the next round's target.

        It is `rounds.arm`, else the last arm with `data: rewritten`. Raises IndexError if there is no such
        arm, which is valid for a run of one round.
        """
        arms = [arm for arm in self.train.arms if arm.data is DataView.REWRITTEN]
        return next((arm for arm in arms if arm.name == self.rounds.arm), arms[-1])

    @property
    def fingerprint(self) -> str:
        """The run's fingerprint: sixteen hex digits of a hash over all settings that affect the records."""
        covered = self.model_dump(mode="json", include={"seed", "problems", "target", "rewrite"})
        if self.rewrite.grounding is None:
            del covered["rewrite"]["grounding"]  # runs of versions without this setting keep their name
        if self.problems.decontaminate:
            covered["benchmarks"] = [
                one.model_dump(mode="json", include={"name", "problems"}) for one in self.evaluate.benchmarks
            ]
        return fingerprint(covered, num_digits=16)

    @property
    def run_id(self) -> str:
        return f"{self.name}-{self.fingerprint}"
