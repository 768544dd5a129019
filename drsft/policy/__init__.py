"""What samples: the protocol, prompts, and each kind of policy behind it."""
