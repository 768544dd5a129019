"""Implements `drsft doctor`: tries out what a run relies on, and what a second run would repeat."""
