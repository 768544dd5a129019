"""Hinted Decoding: two contexts of one problem decoded in step, on torch and on vLLM."""
