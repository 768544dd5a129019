"""The options of verification, a frozen record that is sent to the worker processes as JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

from drsft.config import Verification
from drsft.errors import ConfigError

__all__ = ["VerifyOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOptions:
    """Options of every kind of verifier; the defaults suit GSM8K- and MATH-like data."""

    relative_tolerance: float = 1e-4  # numeric: |a - b| <= max(absolute, relative * |reference|)
    absolute_tolerance: float = 1e-9
    require_box: bool = False  # math: an answer outside \boxed{} is NO_ANSWER
    code_timeout_s: float = 10.0  # wall clock for one solution with all its tests
    code_cpu_s: int = 10
    code_memory_bytes: int = 1 << 30
    code_file_bytes: int = 16 << 20
    code_processes: int = 32
    allow_weak_sandbox: bool = False  # run code although a protection that matters is missing
    custom: Mapping[str, str] = field(default_factory=dict)  # name -> "package.module:function"
    judge_url: str | None = None  # base URL of an OpenAI-compatible server, with its /v1
    judge_model: str | None = None
    judge_key_variable: str = "OPENAI_API_KEY"  # name of the environment variable that holds the key
    judge_rubric: str | None = None
    judge_max_calls: int = 10_000
    judge_timeout_s: float = 60.0
    judge_attempts: int = 3

    @classmethod
    def from_config(cls, config: Verification) -> "VerifyOptions":
        judge = {} if config.judge is None else config.judge.model_dump()
        return cls(
            relative_tolerance=config.relative_tolerance,
            absolute_tolerance=config.absolute_tolerance,
            require_box=config.require_box,
            custom=config.custom,
            **{f"judge_{name}": value for name, value in judge.items()},
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "VerifyOptions":
        values = json.loads(text)
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            raise ConfigError(f"VerifyOptions has no field {', '.join(sorted(unknown))}")
        return cls(**values)
