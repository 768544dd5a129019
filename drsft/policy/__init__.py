"""Samples text from language models: the interface (a policy), the prompts, and every kind of policy."""
