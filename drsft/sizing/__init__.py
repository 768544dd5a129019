"""Estimates a run's tokens, time, storage and money from the measured rates of a small run."""
