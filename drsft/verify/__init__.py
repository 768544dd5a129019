"""Judges whether a text's answer is right, with one verifier for each kind of reference."""
