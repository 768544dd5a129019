"""Measures drsft side by side with other tools, both in the same run."""
