"""Measures how fast this build of drsft reads problems, also in comparison with another checkout's build."""
