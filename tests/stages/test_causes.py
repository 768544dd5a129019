"""A stage that fails in Ray Data is told with the error that its actor raised, not with Ray's wrappers."""

import traceback

import pytest
import ray.exceptions

from drsft.errors import InputError, StageError
from drsft.stages.actors import raise_cause


def as_ray_data_raises(error: BaseException) -> ray.exceptions.RayTaskError:
    """Wraps an error as Ray 2.60 does: Ray Data in a UserCodeException, the task in a RayTaskError."""
    try:
        try:
            raise error
        except BaseException as raised:
            raise ray.exceptions.UserCodeException("UDF failed to process a data block.") from raised
    except ray.exceptions.UserCodeException as wrapped:
        text = traceback.format_exc()
        wrapped.__cause__ = None  # it is not pickled; the text is
        return ray.exceptions.RayTaskError("submit", text, wrapped)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "MemoryError"),
        (RuntimeError("can't start new thread"), "RuntimeError: can't start new thread"),
        (KeyError("x"), "KeyError: 'x'"),
    ],
    ids=["without a message", "of a thread", "of a mistake"],
)
def test_an_error_of_an_actor_is_the_reason(error: BaseException, line: str) -> None:
    with pytest.raises(StageError) as told, raise_cause("rewriting"):
        raise as_ray_data_raises(error)
    assert str(told.value) == f"rewriting failed: {line}"


def test_our_own_errors_keep_their_kind() -> None:
    with pytest.raises(InputError, match="no usable row") as told, raise_cause("rewriting"):
        raise as_ray_data_raises(InputError("no usable row"))
    assert type(told.value) is InputError
