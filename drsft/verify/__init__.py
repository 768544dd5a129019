"""Whether a text's answer is right: one judge for each kind of reference."""
