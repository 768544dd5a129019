"""Finds problems that should not be trained on: those that overlap with a benchmark, and near-duplicates."""
