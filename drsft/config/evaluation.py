"""Benchmarks and the sampling protocol."""

from pydantic import Field, field_validator, model_validator

from drsft.config.base import Frozen, fingerprint
from drsft.config.data import Problems

__all__ = ["Benchmark", "Evaluate"]


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

    @property
    def prefix(self) -> str:
        """Where its problems lie in the run."""
        return f"benchmarks/{self.name}-{fingerprint(self.problems.model_dump(mode='json'), num_digits=8)}"


class Evaluate(Frozen):
    benchmarks: tuple[Benchmark, ...] = ()
    num_samples: int = Field(16, ge=1, description="k of avg@k")
    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(4096, ge=1)

    @field_validator("benchmarks")
    @classmethod
    def names_differ(cls, benchmarks: tuple[Benchmark, ...]) -> tuple[Benchmark, ...]:
        names = [benchmark.name for benchmark in benchmarks]
        if len(set(names)) < len(names):
            raise ValueError(f"benchmark names must differ, got {', '.join(names)}")
        return benchmarks

    @model_validator(mode="after")
    def greedy_is_one_sample(self) -> "Evaluate":
        if self.temperature == 0 and self.num_samples > 1:
            raise ValueError("temperature 0 draws the same sample every time; set num_samples: 1 beside it")
        return self

    def samples_prefix(self, model: str, benchmark: Benchmark) -> str:
        """Where a model's samples lie in the run: named by the benchmark and by all of the protocol."""
        settings = [benchmark.model_dump(mode="json"), self.model_dump(mode="json", exclude={"benchmarks"})]
        return f"evaluate/{model}/{benchmark.name}-{fingerprint(settings, num_digits=8)}"
