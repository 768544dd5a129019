"""Checks a solution's equations."""
