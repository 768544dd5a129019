"""The check of a solution's equations."""
