"""Hinted Decoding: decodes two contexts of one problem in step, on torch and on vLLM."""
