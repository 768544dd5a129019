"""Decides how a model is divided for FSDP, which gathers a unit's weights together."""

__all__ = ["is_one_unit"]

MOST_PARAMETERS = 50_000_000


def is_one_unit(num_parameters: int) -> bool:
    """Returns whether the whole model is one unit; otherwise each of its blocks is.

    Gathering tiny blocks one by one costs more than it saves. The unit's gradient is whole on every process
    until it is reduced, once per step: at most 0.2 GB in fp32.
    """
    return num_parameters <= MOST_PARAMETERS
