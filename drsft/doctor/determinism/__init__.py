"""Finds out what a second run of a configuration would repeat on this machine, stage by stage."""
