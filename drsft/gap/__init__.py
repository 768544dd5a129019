"""How likely texts are to a model, what rewriting changed, and what to train with."""
