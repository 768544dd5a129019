"""Judges multiple choice: the options that a question offers, and the letters that a text chooses."""
