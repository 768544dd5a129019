"""Finds out what a second run of a configuration would reproduce on this machine, stage by stage."""
