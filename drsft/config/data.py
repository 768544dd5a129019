"""Settings of the problems: where they come from, how they are read, and which are set aside."""

import codecs
import hashlib
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from drsft.config.base import Frozen

__all__ = ["Columns", "Decontaminate", "NearDuplicates", "Problems", "Reading"]


class Reading(Frozen):
    """Settings of how files are read; those that are null are decided by the file's first bytes."""

    format: Literal["parquet", "arrow", "json", "jsonl", "csv"] | None = Field(
        None, description="null: detected; csv has any separator"
    )
    rows: str | None = Field(
        None,
        min_length=1,
        description="the key that holds a JSON document's rows, such as `data` or `data.train`",
    )
    separator: str | None = Field(
        None, min_length=1, max_length=1, description="the separator of a CSV; null: detected"
    )
    header: bool | None = Field(None, description="whether a CSV's first record names its columns")
    encoding: str | None = Field(
        None, description="encoding of text that is neither UTF-8 nor has a byte-order mark, such as cp1252"
    )

    @field_validator("encoding")
    @classmethod
    def is_known(cls, encoding: str | None) -> str | None:
        try:
            return encoding and codecs.lookup(encoding).name
        except LookupError:
            raise ValueError(
                f"no encoding is called {encoding!r}; common ones: cp1252, latin-1, gb18030"
            ) from None


class Columns(Frozen):
    """The fields of the user's rows that hold each part of a problem.

    If a setting lists several names, the first one that the row has is used.

    A name may be a path, "meta.answers[0].text", or a template of several, "{Body} {Question}", in which each
    element of a list becomes a line: docs/data.md.
    """

    question: str | tuple[str, ...] = ("problem", "question")
    demonstration: str | tuple[str, ...] = "solution"
    reference: str | tuple[str, ...] = "answer"
    kind: str | None = Field(None, description="field that names the verifier, if rows differ")
    messages: str | None = Field(
        None,
        description="field with a conversation, a list of {role, content}, in the question's place; a last "
        "turn of the assistant is the demonstration, unless `demonstration` is set",
    )

    @property
    def sets_demonstration(self) -> bool:
        """Whether `demonstration` is set to something other than its default.

        If so, its field replaces the last turn of the assistant in a conversation.
        """
        return bool(self.demonstration != type(self).model_fields["demonstration"].default)

    @model_serializer(mode="wrap")
    def without_later_settings(self, serialised: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Serialises the settings without `messages` if it is unset, so that older runs keep their
        fingerprint.
        """
        settings: dict[str, Any] = serialised(self)
        return {key: value for key, value in settings.items() if key != "messages" or value is not None}

    def candidates(self, name: Literal["question", "demonstration", "reference"]) -> tuple[str, ...]:
        value: str | tuple[str, ...] = getattr(self, name)
        return (value,) if isinstance(value, str) else value


class NearDuplicates(Frozen):
    """Sets aside problems that repeat an earlier one in nearly the same words.

    See drsft/intake/clean/near_duplicates.py.
    """

    threshold: float = Field(0.8, gt=0, le=1, description="Jaccard similarity of the word shingles")
    shingle_words: int = Field(2, ge=1, description="words per shingle")
    num_permutations: int = Field(
        128, ge=16, description="permutations of MinHash: more find more pairs, and take more memory"
    )
    numbers_distinguish: bool = Field(
        True, description="problems with other numbers or signs count as different"
    )
    answers_distinguish: bool = Field(
        True, description="problems with other reference answers count as different"
    )


class Decontaminate(Frozen):
    """Sets aside problems that share words with a benchmark question: drsft/intake/clean/contamination.py."""

    ngram: int = Field(
        13,
        ge=2,
        description="a problem overlaps if it shares this many words in a row with a benchmark question",
    )
    min_words: int = Field(8, ge=2, description="a shorter benchmark question matches as a whole only")
    boilerplate_questions: int = Field(
        3, ge=2, description="words in a row that this many benchmark questions share identify none of them"
    )


class Problems(Frozen):
    path: str = Field(
        min_length=1, description="a file of any format of docs/data.md, a folder, s3://…, or a hub dataset"
    )
    split: str = Field(
        "train", description="the split of a hub dataset, or of a folder or document that names splits"
    )
    subset: str | None = Field(None, description="the configuration of a hub dataset")
    columns: Columns = Columns()
    reading: Reading = Reading()
    kind: str = Field("math", description="the verifier of rows that name none; see docs/verification.md")
    options_from: Literal[0, 1] | None = Field(
        None,
        description="number of the first option, if the answers of kind choice are numbers of options",
    )
    limit: int | None = Field(
        None, ge=1, description="use only this many problems, the first ones; null: all"
    )
    part: str | None = Field(
        None,
        pattern=r"^\d{1,2}-\d{1,3}$",
        description="percent of the questions by their hash: 0-90 trains, and a benchmark of the same file "
        "with 90-100 evaluates on the others",
    )
    shard_size: int = Field(64, ge=1, description="problems in a shard: the unit of work and of recovery")
    near_duplicates: NearDuplicates | None = Field(None, description="{} sets them aside; null keeps them")
    decontaminate: Decontaminate | None = Field(
        None, description="{} sets problems aside that overlap with evaluate.benchmarks; null keeps them"
    )

    @model_serializer(mode="wrap")
    def without_later_settings(self, serialised: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Serialises the settings, without keys of later versions that still have their default value.

        So adding a key does not change the fingerprint of older runs.
        """
        settings: dict[str, Any] = serialised(self)
        unset = {
            "reading": self.reading == Reading(),
            "part": self.part is None,
            "options_from": self.options_from is None,
        }
        return {key: value for key, value in settings.items() if not unset.get(key, False)}

    @field_validator("part")
    @classmethod
    def is_a_range(cls, part: str | None) -> str | None:
        if part is not None:
            first, end = map(int, part.split("-"))
            if not first < end <= 100:
                raise ValueError(f"{part!r} is not a range of percentages; write for example 0-90 or 90-100")
        return part

    def holds(self, question: str) -> bool:
        """Returns whether a question is in the part of the data that `part` selects, if it is set.

        Equal questions are in the same part.
        """
        if self.part is None:
            return True
        first, end = map(int, self.part.split("-"))
        digest = hashlib.blake2b(question.encode(), digest_size=8).digest()
        return first <= int.from_bytes(digest, "big") % 100 < end
