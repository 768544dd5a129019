"""Studies whose figures the docs quote: each is a command, `python -m tests.studies.NAME --help`."""
