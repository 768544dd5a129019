"""Benches of verification."""
