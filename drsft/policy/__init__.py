"""Samples text: the protocol, prompts, and each kind of policy that implements it."""
