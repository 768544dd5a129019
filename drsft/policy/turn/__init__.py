"""The assistant's turn as a model's chat template writes it, derived once from renderings of probes."""
