"""Reads stored objects back as the types that were written.

A run's folder may come from someone else, or be damaged. So an object that does not fit its type raises
DamagedError at once.
"""

from functools import lru_cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from drsft.errors import DamagedError
from drsft.storage import Store

__all__ = ["read_stored"]

Stored = TypeVar("Stored")


def read_stored(store: Store, key: str, kind: type[Stored], **more: Any) -> Stored:
    """Returns the JSON object at `key` as a `kind`, a dataclass or a pydantic model.

    The fields in `more` are added to those of the object, or replace them. Fields that `kind` lacks are
    ignored if it allows that, since a newer version may have written them. Raises DamagedError if the object
    does not fit `kind`.
    """
    try:
        fields = _adapter(dict[str, Any]).validate_json(store.read(key))
        stored: Stored = _adapter(cast(Any, kind)).validate_python({**fields, **more})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        reason = f"{where}: {first['msg']}" if where else first["msg"]
        raise DamagedError(f"{store.url}/{key} is damaged: {reason[:200]}") from error
    return stored


@lru_cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
