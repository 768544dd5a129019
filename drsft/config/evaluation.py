"""Settings of benchmarks and of the sampling protocol."""

import difflib
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from drsft.config.base import Frozen, fingerprint, merged
from drsft.config.benchmarks import KNOWN_BENCHMARKS, PROTOCOLS
from drsft.config.data import Decontaminate, Problems
from drsft.config.target import Prompts

__all__ = ["Benchmark", "Evaluate"]


class Benchmark(Frozen):
    """A benchmark that is known by name (the name alone is enough), or a file of the user's own."""

    name: str = Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$", max_length=40)
    problems: Problems
    prompt: str | None = Field(None, description="the user's turn with {question}; null: the protocol's")

    @model_validator(mode="before")
    @classmethod
    def by_name(cls, given: Any) -> Any:
        given = {"name": given} if isinstance(given, str) else given
        if not isinstance(given, dict) or not isinstance(name := given.get("name"), str):
            return given
        if name in KNOWN_BENCHMARKS:
            return merged(KNOWN_BENCHMARKS[name], given)
        if "problems" not in given:
            close = difflib.get_close_matches(name.lower(), KNOWN_BENCHMARKS, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ValueError(
                f"no benchmark is known by the name {name!r}; {hint}set the problems of your own "
                f"benchmark, or use one of these names: {', '.join(KNOWN_BENCHMARKS)}"
            )
        return given

    @field_validator("prompt")
    @classmethod
    def has_the_question(cls, prompt: str | None) -> str | None:
        return _with_question(prompt)

    @model_validator(mode="after")
    def is_taken_whole(self) -> "Benchmark":
        if self.problems.near_duplicates or self.problems.decontaminate:
            raise ValueError(
                "a benchmark is evaluated as it is; near_duplicates and decontaminate belong to the "
                "training problems (problems.near_duplicates, problems.decontaminate)"
            )
        return self

    @property
    def problems_fingerprint(self) -> str:
        return fingerprint(self.problems.model_dump(mode="json"), num_digits=8)


class Evaluate(Frozen):
    preset: Literal["published", "published_llama"] | None = Field(
        None, description="the papers' protocol; keys written beside it override it"
    )
    benchmarks: tuple[Benchmark, ...] = ()
    base: bool = Field(True, description="evaluate the untrained target too")
    num_samples: int = Field(16, ge=1, description="k of avg@k")
    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(4096, ge=1)
    prompt: str | None = Field(
        None, description="the user's turn with {question}; null: target.prompts.plain, as in training"
    )
    system: str | None = Field(None, description="the system's turn; null: target.prompts.system")
    contamination: Decontaminate = Field(
        Decontaminate(), description="when a training problem counts as overlapping with a benchmark"
    )

    @model_validator(mode="before")
    @classmethod
    def from_preset(cls, given: Any) -> Any:
        name = given.get("preset") if isinstance(given, dict) else None
        return merged(PROTOCOLS[name], given) if isinstance(name, str) and name in PROTOCOLS else given

    @field_validator("prompt")
    @classmethod
    def has_the_question(cls, prompt: str | None) -> str | None:
        return _with_question(prompt)

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
            raise ValueError("temperature 0 draws the same sample every time; set num_samples: 1, too")
        return self

    def prompts_for(self, benchmark: Benchmark, target: Prompts) -> Prompts:
        """Returns `target` with the plain prompt and the system turn that the benchmark's questions get.

        The plain prompt is the benchmark's own, else `prompt` of these settings, else `target`'s. The system
        turn is `system` of these settings, else `target`'s.
        """
        plain = benchmark.prompt or self.prompt or target.plain
        return target.model_copy(update={"plain": plain, "system": self.system or target.system})

    def samples_fingerprint(self, benchmark: Benchmark) -> str:
        """Returns a hash of the benchmark and of all settings that its samples depend on."""
        protocol = self.model_dump(mode="json", exclude={"benchmarks", "base", "preset", "contamination"})
        settings = [benchmark.model_dump(mode="json"), protocol]
        return fingerprint(settings, num_digits=8)

    @property
    def contamination_fingerprint(self) -> str:
        return fingerprint(self.contamination.model_dump(mode="json"), num_digits=8)


def _with_question(prompt: str | None) -> str | None:
    if prompt is not None and "{question}" not in prompt:
        raise ValueError("the prompt must contain {question}, which the question replaces")
    return prompt
