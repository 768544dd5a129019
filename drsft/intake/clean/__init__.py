"""Screens problems: contamination with benchmarks, near-duplicates."""
