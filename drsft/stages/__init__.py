"""Runs the stages on Ray: thin functions around the core's."""
