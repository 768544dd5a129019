"""Trains one model with plain torch, on one process or many: rows, steps, checkpoints, export."""
