"""One training under plain torch, on one process or many: rows, steps, checkpoints, export."""
