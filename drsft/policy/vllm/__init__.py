"""The policy that samples with a vLLM engine."""
