"""Defines what a run's folder holds, and the protocols by which drivers and workers share it."""
