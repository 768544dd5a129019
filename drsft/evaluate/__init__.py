"""Turns samples on benchmarks into scores with intervals and paired differences."""
