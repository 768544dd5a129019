"""Benches of rewriting, and the peers that they run beside it."""
