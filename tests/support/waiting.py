"""Waiting for what happens in another process, which gives this one no event to wait for."""

from collections.abc import Callable

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

__all__ = ["wait_until"]

POLL_S = 0.01


def wait_until(is_so: Callable[[], bool], *, timeout_s: float = 120) -> None:
    """Returns once `is_so()` holds. Raises tenacity.RetryError after `timeout_s`."""
    stop, wait = stop_after_delay(timeout_s), wait_fixed(POLL_S)
    Retrying(retry=retry_if_result(lambda held: not held), stop=stop, wait=wait)(is_so)
