"""Limits on what callers may request: keys, rates, tokens in flight."""
