"""Measures how likely texts are to a model and what rewriting changed, and recommends an objective."""
