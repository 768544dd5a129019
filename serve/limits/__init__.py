"""Limits on what callers may ask: keys, rates, tokens in flight."""
