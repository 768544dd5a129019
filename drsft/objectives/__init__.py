"""The losses: weights of tokens, the loss fused with the head, meters, rules that warn."""
