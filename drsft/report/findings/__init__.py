"""Writes the sentences that state what the numbers of a report show."""
