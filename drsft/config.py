"""The configuration: one frozen tree that refuses unknown keys.

`resources`, `storage` and `name` never change what a run computes, so they stay out of its fingerprint;
everything else names the run's directory.
"""

import hashlib
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

__all__ = [
    "Arm",
    "Benchmark",
    "Columns",
    "Decontaminate",
    "Dft",
    "Engine",
    "Evaluate",
    "NearDuplicates",
    "Objective",
    "Problems",
    "Prompts",
    "Resources",
    "Rewrite",
    "RunConfig",
    "SamplingStage",
    "Sft",
    "Target",
    "Train",
    "Verification",
]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Columns(Frozen):
    """Which fields of the user's rows hold what; of several names the first that a row has."""

    question: str | tuple[str, ...] = ("problem", "question")
    demonstration: str | tuple[str, ...] = "solution"
    reference: str | tuple[str, ...] = "answer"
    kind: str | None = Field(None, description="field that names the verifier; without it every row is math")

    def candidates(self, name: Literal["question", "demonstration", "reference"]) -> tuple[str, ...]:
        value: str | tuple[str, ...] = getattr(self, name)
        return (value,) if isinstance(value, str) else value


class NearDuplicates(Frozen):
    """Problems that say what an earlier one says are set aside: see drsft/clean/near_duplicates.py."""

    threshold: float = Field(0.8, gt=0, le=1, description="Jaccard similarity of the word shingles")
    shingle_words: int = Field(2, ge=1, description="words of a shingle")
    num_permutations: int = Field(128, ge=16, description="of MinHash: more find more, and take more memory")
    numbers_distinguish: bool = Field(True, description="other numbers or signs: another problem")
    answers_distinguish: bool = Field(True, description="another reference answer: another problem")


class Decontaminate(Frozen):
    """Problems that share words with a benchmark question are set aside: see drsft/clean/contamination.py."""

    ngram: int = Field(13, ge=2, description="so many words in a row that stand in a benchmark question too")
    min_words: int = Field(8, ge=2, description="a shorter benchmark question matches as a whole only")
    boilerplate_questions: int = Field(
        3, ge=2, description="words in a row that so many benchmark questions share identify none of them"
    )


class Problems(Frozen):
    path: str = Field(description="JSON lines (.gz too), Parquet, a folder, s3://…, or a hub dataset")
    split: str = Field("train", description="which split, for a hub dataset")
    subset: str | None = Field(None, description="which configuration, for a hub dataset")
    columns: Columns = Columns()
    limit: int | None = Field(None, ge=1, description="only the first so many problems")
    shard_size: int = Field(64, ge=1, description="problems in a shard: the unit of work and of recovery")
    near_duplicates: NearDuplicates | None = Field(None, description="{} sets them aside; null keeps them")
    decontaminate: Decontaminate | None = Field(
        None, description="{} sets problems aside that overlap with evaluate.benchmarks; null keeps them"
    )


class Prompts(Frozen):
    """User turns; {question} and {demonstration} are filled in as plain text, all else stands as written."""

    system: str | None = None
    plain: str = "{question}\nPlease reason step by step, and put your final answer within \\boxed{}."
    guided: str = (
        "{question}\n\nA worked solution to this problem is given below. Work towards an understanding of "
        "your own first and lean on it only where you are stuck. Then solve the problem step by step in your "
        "own words, without copying or mentioning it, and put your final answer within \\boxed{}."
        "\n\n{demonstration}"
    )

    @model_validator(mode="after")
    def has_placeholders(self) -> "Prompts":
        if "{question}" not in self.plain:
            raise ValueError("plain must contain {question}")
        if "{question}" not in self.guided or "{demonstration}" not in self.guided:
            raise ValueError("guided must contain {question} and {demonstration}")
        return self


class Engine(Frozen):
    """How vLLM is started."""

    max_num_seqs: int = Field(128, ge=1, description="sequences decoded at once")
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1)
    kv_cache_mib: int | None = Field(None, ge=16, description="needed on a CPU; on a GPU leave it out")
    enforce_eager: bool = False
    tensor_parallel_size: int = Field(1, ge=1)


class Target(Frozen):
    """The model being trained."""

    model: str = Field(description="a folder, a hub name, or `embedded`")
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    max_model_len: int = Field(4096, ge=16, description="prompt and completion together, tokens")
    prompts: Prompts = Prompts()
    engine: Engine = Engine()


class SamplingStage(Frozen):
    """One stage of the cascade; `num_samples: 0` leaves the stage out."""

    num_samples: int = Field(10, ge=0, description="at most so many samples for a problem")
    wave_size: int = Field(5, ge=1, description="samples drawn at once; another wave only if none passed")
    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(2048, ge=1, description="of a completion")


class Verification(Frozen):
    timeout_s: float = Field(5.0, gt=0, description="for one verdict; past it the verdict is unjudged")
    memory_limit_mib: int = Field(2048, ge=64, description="of one worker process")


class Rewrite(Frozen):
    self_align: SamplingStage = SamplingStage()
    guided: SamplingStage = SamplingStage()
    verification: Verification = Verification()


class Sft(Frozen):
    """Plain cross-entropy: weight 1."""

    kind: Literal["sft"] = "sft"


class Dft(Frozen):
    """Dynamic fine-tuning (arXiv 2508.05629, eq. 9): weight sg(p_t)."""

    kind: Literal["dft"] = "dft"


Objective = Annotated[Sft | Dft, Field(discriminator="kind")]


class Arm(Frozen):
    """One way of training that is compared with the others."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_+.-]*$", max_length=40)
    data: Literal["expert", "rewritten"] = "rewritten"
    objective: Objective = Dft()


class Train(Frozen):
    arms: tuple[Arm, ...] = (Arm(name="dr+dft"),)
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    seq_len: int = Field(2048, ge=16, description="tokens of a packed row")
    batch_rows: int = Field(64, ge=1, description="packed rows of one step, over all workers")
    micro_batch_rows: int = Field(1, ge=1, description="packed rows of one forward on one worker")
    num_epochs: int = Field(1, ge=1)
    learning_rate: float = Field(5e-5, gt=0)
    warmup_ratio: float = Field(0.1, ge=0, le=1, description="of all steps; then cosine to zero")
    weight_decay: float = Field(0.01, ge=0)
    adam_betas: tuple[float, float] = (0.9, 0.95)
    max_grad_norm: float = Field(1.0, gt=0)
    activation_checkpointing: bool = False
    checkpoint_every_steps: int = Field(100, ge=1)

    @field_validator("arms")
    @classmethod
    def names_differ(cls, arms: tuple[Arm, ...]) -> tuple[Arm, ...]:
        names = [arm.name for arm in arms]
        if len(set(names)) < len(names):
            raise ValueError(f"arm names must differ, got {', '.join(names)}")
        return arms


class Benchmark(Frozen):
    name: str = Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$", max_length=40)
    problems: Problems

    @model_validator(mode="after")
    def is_taken_whole(self) -> "Benchmark":
        if self.problems.near_duplicates or self.problems.decontaminate:
            raise ValueError(
                "a benchmark is evaluated as it is; near_duplicates and decontaminate belong to the "
                "training problems (problems.near_duplicates, problems.decontaminate)"
            )
        return self


class Evaluate(Frozen):
    benchmarks: tuple[Benchmark, ...] = ()
    num_samples: int = Field(16, ge=1, description="k of avg@k")
    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(4096, ge=1)


class Resources(Frozen):
    """What the run may use; changing it never changes the run's directory."""

    rewrite_actors: int = Field(1, ge=1, description="engines that rewrite and evaluate side by side")
    cpus_per_actor: float = Field(1, gt=0)
    gpus_per_actor: float = Field(0, ge=0)
    verify_workers_per_actor: int = Field(1, ge=1)
    shards_in_flight_per_actor: int = Field(4, ge=1)
    train_workers: int = Field(1, ge=1)
    cpus_per_train_worker: float = Field(1, gt=0)
    gpus_per_train_worker: float = Field(0, ge=0)
    max_train_failures: int = Field(3, ge=0)
    dashboard_port: int | None = Field(
        None, ge=1, le=65535, description="show Ray's dashboard of a local cluster on this loopback port"
    )


class RunConfig(Frozen):
    name: str = Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$", max_length=60)
    storage: str = Field("runs", description="a folder, or s3://bucket/prefix")
    seed: int = 0
    problems: Problems
    target: Target
    rewrite: Rewrite = Rewrite()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    resources: Resources = Resources()

    @model_validator(mode="after")
    def lengths_fit(self) -> "RunConfig":
        longest = max(self.rewrite.self_align.max_tokens, self.rewrite.guided.max_tokens)
        if longest >= self.target.max_model_len:
            limit = self.target.max_model_len
            raise ValueError(f"rewrite max_tokens ({longest}) must be below target.max_model_len ({limit})")
        return self

    @model_validator(mode="after")
    def has_benchmarks_to_decontaminate_against(self) -> "RunConfig":
        if self.problems.decontaminate and not self.evaluate.benchmarks:
            raise ValueError("problems.decontaminate is set, but evaluate.benchmarks names no benchmark")
        return self

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits over everything that changes what the run computes."""
        canonical = self.model_dump_json(exclude={"name", "storage", "resources"})
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @property
    def run_id(self) -> str:
        return f"{self.name}-{self.fingerprint}"
