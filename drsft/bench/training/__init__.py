"""Benches of the loss, the training step and gap scoring."""
