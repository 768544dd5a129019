"""Implements `drsft doctor`: checks what a run relies on, and tries what a second run would repeat."""
