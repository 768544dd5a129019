"""Hinted Decoding on torch and on vLLM: draws each token from a mixture of two distributions of one model,
one after a prompt with a hint and one after the plain prompt.
"""
