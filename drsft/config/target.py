"""Settings of the model being trained, its prompts and its engine."""

import datetime
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from drsft.config.base import Frozen

__all__ = ["EMBEDDED_PROMPTS", "Engine", "Prompts", "Target", "ThoughtMarkers"]

_GIVEN_BY_DRSFT = ("messages", "tools", "documents", "add_generation_prompt", "strftime_now")


class Prompts(Frozen):
    """The templates of the prompts, without and with a guide, and the system turn.

    {question} and {demonstration} are filled in as plain text; all else is used as written.
    """

    system: str | None = None
    plain: str = "{question}\nPlease reason step by step, and put your final answer within \\boxed{}."
    guided: str = (
        "{question}\n\nA worked solution to this problem is given below. Work towards an understanding of "
        "your own first and lean on it only where you are stuck. Then solve the problem step by step in your "
        "own words, without copying or mentioning it, and put your final answer within \\boxed{}."
        "\n\n{demonstration}"
    )
    answered: str = (
        "{question}\n\nThe correct final answer is {demonstration}. Solve the problem step by step so that "
        "your own reasoning leads there, without saying that you were told the answer, and put your final "
        "answer within \\boxed{}."
    )
    rephrased: str = (
        "{question}\n\nA solution to this problem is given below. Write it anew in your own words, step by "
        "step, with the same final answer within \\boxed{}, and do not speak of the given one."
        "\n\n{demonstration}"
    )

    @model_validator(mode="after")
    def has_placeholders(self) -> "Prompts":
        if "{question}" not in self.plain:
            raise ValueError("the template plain must contain {question}, which the question replaces")
        for name in ("guided", "answered", "rephrased"):
            template = getattr(self, name)
            if "{question}" not in template or "{demonstration}" not in template:
                raise ValueError(f"the template {name} must contain {{question}} and {{demonstration}}")
        return self


EMBEDDED_PROMPTS = Prompts(  # what the tiny model was made with
    plain="{question}",
    guided="{question}\nReference solution: {demonstration}\nSolve it in your own words.",
)


class Engine(Frozen):
    """Settings with which vLLM is started."""

    max_num_seqs: int = Field(128, ge=1, description="sequences decoded at once")
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1)
    kv_cache_mib: int | None = Field(
        None, ge=16, description="null: on a CPU as much as is needed and free, on a GPU all of it"
    )
    enforce_eager: bool = False
    tensor_parallel_size: int = Field(1, ge=1)
    options: dict[str, JsonValue] = Field(
        {}, description="more of vLLM's engine arguments, such as quantization (docs/engines.md)"
    )

    @model_serializer(mode="wrap")
    def without_later_settings(self, serialised: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Serialises the settings without `options` if there are none, so that older runs keep their
        fingerprint.
        """
        fields: dict[str, Any] = serialised(self)
        if not fields.get("options", True):
            del fields["options"]
        return fields


class ThoughtMarkers(Frozen):
    """The texts that open and close a thought, for models whose chat template does not contain them."""

    open: str = Field(min_length=1)
    close: str = Field(min_length=1)


class Target(Frozen):
    """The model being trained, and how it is prompted and sampled."""

    model: str = Field(description="a folder, a hub name, s3://…, or `embedded`")
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    max_model_len: int = Field(4096, ge=16, description="prompt and completion together, tokens")
    chat_template: str | None = Field(
        None,
        description="a file with a Jinja template; null: the model's own. The configuration keeps its text",
    )
    chat_template_kwargs: dict[str, JsonValue] = Field(
        {}, description="variables of the template, such as enable_thinking"
    )
    thought: ThoughtMarkers | None = Field(
        None, description="{open, close}: the markers of a thought; null: those of the template"
    )
    spelt_markers: bool = Field(
        False, description="the model was trained with markers of its template that are not single tokens"
    )
    date: datetime.date | None = Field(
        None, description="for templates that write one; null: the day on which the run is first started"
    )
    prompts: Prompts = Prompts()
    engine: Engine = Engine()

    @field_validator("chat_template")
    @classmethod
    def read_template(cls, given: str | None) -> str | None:
        """Returns the content of the chat template file whose path is given; a template itself is unchanged.

        The run's fingerprint contains the template's text. So you may move the file, but if you edit it, the
        fingerprint changes.
        """
        if given is None or re.search(r"\{[{%]", given):
            return given
        try:
            return Path(given).expanduser().read_text(encoding="utf-8")
        except (OSError, ValueError, RuntimeError) as error:
            raise ValueError(f"{given[:200]!r} cannot be read: give a file with a Jinja template") from error

    @field_validator("chat_template_kwargs")
    @classmethod
    def sets_the_templates_own(cls, given: dict[str, Any]) -> dict[str, Any]:
        for name in given:
            if name in _GIVEN_BY_DRSFT:
                raise ValueError(f"{name!r} cannot be set: drsft passes it itself")
            if not name.isidentifier():
                raise ValueError(f"{name!r} cannot be set: it cannot be the name of a template's variable")
        return given

    @model_serializer(mode="wrap")
    def without_later_settings(self, serialised: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Serialises the settings, without keys of later versions that still have their default value.

        So adding a key does not change the fingerprint of older runs.
        """
        fields: dict[str, Any] = serialised(self)
        for name in ("chat_template", "chat_template_kwargs", "thought", "date", "spelt_markers"):
            if not fields.get(name, True):
                del fields[name]
        return fields
