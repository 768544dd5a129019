"""Judges Python solutions by unit tests, in a sandbox."""
