"""The cascade from a problem to a record: sampling, judging, selecting."""
