"""Runs each stage of a run on Ray; functions of the other packages, which do not use Ray, do the work."""
