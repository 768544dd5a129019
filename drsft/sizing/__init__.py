"""Estimates what a run will take, from the rates of a small one."""
