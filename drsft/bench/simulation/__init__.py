"""Rewriting on a simulated cluster and a virtual clock."""
