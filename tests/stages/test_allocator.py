"""A training worker's allocator of GPU memory has expandable segments, unless the user has set it."""

import pytest

from drsft.stages.training_worker import let_segments_grow


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}),
        ({"PYTORCH_ALLOC_CONF": "backend:native"}, {"PYTORCH_ALLOC_CONF": "backend:native"}),
        ({"PYTORCH_CUDA_ALLOC_CONF": "backend:native"}, {"PYTORCH_CUDA_ALLOC_CONF": "backend:native"}),
    ],
    ids=["unset", "set", "set by its older name"],
)
def test_only_an_allocator_that_is_not_set_is_set(given: dict[str, str], expected: dict[str, str]) -> None:
    environment = dict(given)
    let_segments_grow(environment)
    assert environment == expected
