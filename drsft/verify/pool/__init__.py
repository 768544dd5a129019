"""Judges in worker processes that can be killed."""

from drsft.verify.pool.pool import VerifierPool

__all__ = ["VerifierPool"]
