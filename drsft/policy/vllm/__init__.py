"""The policy on a vLLM engine."""
