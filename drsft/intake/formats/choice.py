"""Detects the format of a file: first by its first bytes, then by its name."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from drsft.config import Problems
from drsft.errors import InputError
from drsft.intake.formats.columnar import begins_as_arrow, begins_as_parquet, read_arrow, read_parquet
from drsft.intake.formats.delimited import begins_as_table, read_table_text
from drsft.intake.formats.json_document import begins_as_json_document, read_json_document
from drsft.intake.formats.json_lines import begins_as_json_lines, read_json_lines
from drsft.intake.formats.row import BadRow, JsonLine, Row
from drsft.intake.formats.stream import PACKED_SUFFIXES, Stream

__all__ = ["FORMATS", "KNOWN_ENDINGS", "Format", "format_of", "has_known_suffix"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    name: str  # as problems.reading.format has it
    suffixes: tuple[str, ...]
    begins: Callable[[Stream], bool]  # whether the first bytes can be this format's
    read: Callable[[Stream, Problems], Iterator[Row | BadRow | JsonLine]]


FORMATS = (  # of several that a beginning fits, the first, unless the file's name says another
    Format(name="parquet", suffixes=(".parquet",), begins=begins_as_parquet, read=read_parquet),
    Format(name="arrow", suffixes=(".arrow", ".feather", ".ipc"), begins=begins_as_arrow, read=read_arrow),
    Format(name="json", suffixes=(".json",), begins=begins_as_json_document, read=read_json_document),
    Format(
        name="jsonl",
        suffixes=(".jsonl", ".ndjson", ".jsonlines"),
        begins=begins_as_json_lines,
        read=read_json_lines,
    ),
    Format(name="csv", suffixes=(".csv", ".tsv", ".tab"), begins=begins_as_table, read=read_table_text),
)
KNOWN_ENDINGS = tuple(suffix for one in FORMATS for suffix in one.suffixes)
_NO_DATA = {  # the first bytes of files that users often have in the place of data
    "version https://git-lfs": "a pointer of Git LFS; fetch the file itself: git lfs pull",
    "PK\x03\x04": "a zip archive or an Excel workbook; unpack it, or save it as CSV",
    "<!doctype html": "a web page; download the raw file instead",
    "<html": "a web page; download the raw file instead",
    "FEA1": "Feather version 1; write it again with pyarrow.feather.write_feather",
}


def format_of(stream: Stream, given: str | None) -> Format:
    """Returns the format called `given`; if that is None, the one that the first bytes fit, else the name.

    Raises InputError if neither fits a format, or if the bytes are no data (a web page, a zip archive, …).
    """
    if given is not None:
        return next(one for one in FORMATS if one.name == given)
    head = stream.head.lstrip().lower()
    for beginning, what in _NO_DATA.items():
        if head.startswith(beginning.lower()):
            raise InputError(f"{stream.name} is {what}")
    by_name = [one for one in FORMATS if _unpacked_name(stream.name).endswith(one.suffixes)]
    by_content = [one for one in FORMATS if one.begins(stream)]
    both = [one for one in by_content if one in by_name]
    found = next(iter(both or by_content or by_name), None)
    if found is None:
        known = ", ".join(one.name for one in FORMATS)
        raise InputError(
            f"{stream.name}: its format is not supported; convert it to one of {known}, "
            "or set problems.reading.format if it is one of these"
        )
    return found


def has_known_suffix(name: str) -> bool:
    return _unpacked_name(name).endswith(KNOWN_ENDINGS)


def _unpacked_name(name: str) -> str:
    lowered = name.lower()
    return next((lowered.removesuffix(end) for end in PACKED_SUFFIXES if lowered.endswith(end)), lowered)
