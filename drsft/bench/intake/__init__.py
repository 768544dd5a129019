"""Measures how fast problems are read, beside another checkout's build."""
