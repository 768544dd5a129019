"""Implements `drsft doctor`: checks what a run relies on, and finds out what a second run would reproduce."""
