"""Defines the content of a run's folder, and the protocols by which drivers and workers share it."""
