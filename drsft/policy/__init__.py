"""Samples text: the interface of a policy, its prompts, and each kind of policy."""
