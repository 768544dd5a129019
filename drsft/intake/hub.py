"""Reads rows of a dataset on the Hugging Face hub, by its name, subset and split.

The `datasets` library changes texts of JSON and CSV files that look like numbers: "007" becomes 7. Therefore
it only finds and downloads these files, and drsft's own readers read them. The library reads other formats.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from drsft.config import Problems
from drsft.errors import InputError
from drsft.intake.formats.row import Row
from drsft.intake.splits import wanted_splits

__all__ = ["hub_files", "hub_rows"]

_READ_HERE = {"json", "csv"}  # the library's names of its readers


def hub_files(problems: Problems) -> list[Path] | None:
    """Downloads the split's JSON or CSV files and returns their paths; None for datasets of other formats.

    Raises InputError if the dataset cannot be loaded, or does not have the split.
    """
    builder = _loaded(problems, "load_dataset_builder")
    if builder.dataset_name is None or type(builder).__module__.rpartition(".")[2] not in _READ_HERE:
        return None
    by_split = {str(name): found for name, found in (builder.config.data_files or {}).items()}
    wanted = wanted_splits(problems.split)
    chosen = [name for name in by_split if wanted_splits(name) <= wanted]
    if not chosen:
        has = ", ".join(by_split)
        name = problems.path
        raise InputError(f"{name!r} has the splits {has}, not {problems.split!r}; set problems.split")
    from datasets import DownloadManager

    urls = [str(url) for name in chosen for url in by_split[name]]
    return [Path(found) for found in DownloadManager().download(urls)]


def hub_rows(problems: Problems) -> Iterator[Row]:
    """Yields the rows as the `datasets` library returns them. Raises InputError if it cannot load them."""
    dataset = _loaded(problems, "load_dataset", split=problems.split)
    for number, fields in enumerate(dataset, start=1):
        yield Row(f"{problems.path} {problems.split} row {number}", dict(fields))


def _loaded(problems: Problems, function: str, **options: Any) -> Any:
    name = problems.path
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            f"problems.path {name!r} is not a file or folder on this machine; "
            "to read it from the hub install drsft[hub] (pip install 'drsft[hub]')"
        ) from error
    try:
        return getattr(datasets, function)(name, problems.subset, **options)
    except Exception as error:  # the library raises its own, the hub's and requests' errors
        reason = str(error).strip().splitlines()[0][:200]
        raise InputError(
            f"problems.path {name!r} is not a file or folder on this machine and did not load from the hub: "
            f"{reason}; without a network give the path of a local copy"
        ) from error
