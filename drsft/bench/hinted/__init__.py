"""Benches of Hinted Decoding."""
