"""Decides how a model is divided for FSDP, which gathers a unit's weights together."""

__all__ = ["is_one_unit"]

MOST_PARAMETERS = 50_000_000


def is_one_unit(num_parameters: int) -> bool:
    """Returns whether FSDP treats the whole model as one unit; otherwise each of its layers is a unit.

    Gathering tiny layers one by one costs more than it saves. The unit's gradient is whole on every process
    until it is reduced, once per step: at most 0.2 GB in fp32.
    """
    return num_parameters <= MOST_PARAMETERS
