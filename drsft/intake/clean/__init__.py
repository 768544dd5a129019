"""Screens for problems: contamination with benchmarks, near-duplicates."""
