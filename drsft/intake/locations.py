"""Finds the files of problems: at a path, in a folder or an object store, of the wanted split."""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from drsft.config import Problems
from drsft.errors import InputError
from drsft.intake.formats.choice import KNOWN_ENDINGS, has_known_suffix
from drsft.intake.splits import split_of, wanted_splits
from drsft.storage import LocalStore, S3Store, Store, open_store
from drsft.storage.failures import is_nameable

__all__ = ["files_of", "shown_name"]

# Files beside the data in folders that `datasets` and the hub write.
_METADATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}


def files_of(problems: Problems) -> Iterator[tuple[Store, str]] | None:
    """Returns the files to read, in a stable order; each is a store and a key in it.

    Returns None if `problems.path` does not exist here and may be the name of a dataset on the hub. Raises
    InputError if it cannot be one, or has no file of the wanted split in a supported format.
    """
    path = problems.path
    if path.startswith("embedded:"):
        path = str(files("drsft.embedded") / "data" / f"{path.removeprefix('embedded:')}.jsonl.gz")
    if not is_nameable(path):
        raise InputError(f"problems.path {path!r}: no file can have this name")
    if path.startswith("~"):
        path = _at_home(path)
    if path.startswith("s3://") or _exists(path):
        return _files_at(path, problems.split)
    if has_known_suffix(path) or path.startswith((".", "/", "~")) or path.count("/") > 1:
        raise InputError(f"problems.path {path!r}: no such file or folder")
    return None


def shown_name(store: Store, key: str) -> str:
    """Returns the path or URL by which messages name a file."""
    return f"{store.url}/{key}" if isinstance(store, S3Store) else str(Path(store.url) / key)


def _at_home(path: str) -> str:
    try:
        return str(Path(path).expanduser())
    except RuntimeError as error:
        raise InputError(
            f"problems.path {path!r}: no user has this name; write the path without ~"
        ) from error


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError as error:  # too long a name, for one
        raise InputError(f"problems.path {path!r:.200}: {error.strerror}") from error


def _files_at(path: str, split: str) -> Iterator[tuple[Store, str]]:
    """Returns the file itself, or the data files below the folder."""
    if not path.startswith("s3://"):
        file = Path(path).absolute()
        if file.is_file():
            return iter([(LocalStore(file.parent), file.name)])
    elif has_known_suffix(path):
        folder, _, name = path.rpartition("/")
        store: Store = open_store(folder)
        if not store.exists(name):
            raise InputError(f"problems.path {path!r}: no such file")
        return iter([(store, name)])
    store = open_store(path)
    there = [key for key in store.keys("") if not _is_hidden(key)]
    keys = [key for key in there if has_known_suffix(key) and key.rpartition("/")[2] not in _METADATA]
    if not keys:
        others = sorted({Path(key).suffix or Path(key).name for key in there})[:5]
        has = f" (it has: {', '.join(others)})" if others else ""
        known = ", ".join(KNOWN_ENDINGS)
        raise InputError(
            f"problems.path {path!r} has no file of a supported format{has}; give a file, or a folder with "
            f"files named *{known}"
        )
    return iter([(store, key) for key in _of_split(keys, path, split)])


def _is_hidden(key: str) -> bool:
    """Returns whether a file is hidden: editors leave copies of data in .ipynb_checkpoints/ or
    ._data.jsonl.
    """
    return any(part.startswith(".") for part in key.split("/"))


def _of_split(keys: list[str], path: str, split: str) -> list[str]:
    """Returns the files of the split by their names; all of them if no name mentions a split."""
    splits = {key: split_of(key) for key in keys}
    said = sorted({one for one in splits.values() if one is not None})
    if not said:
        return keys
    wanted = wanted_splits(split)
    chosen = [key for key in keys if (splits[key] or "train") in wanted]
    if not chosen:
        raise InputError(
            f"problems.path {path!r} has files of the splits {', '.join(said)}, but none of {split!r}; "
            "set problems.split"
        )
    return chosen
