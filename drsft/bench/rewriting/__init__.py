"""Benches of rewriting, and the tools that rewriting is compared with."""
