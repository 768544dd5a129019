"""Computes the losses: token weights, the loss fused with the head, meters, and rules for warnings."""
