"""Turns a user's data into problems: reading, checking, screening and cutting into shards."""
