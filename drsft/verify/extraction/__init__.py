"""Finds the statement of a text that is its answer; `order` defines which statements are trusted most."""
