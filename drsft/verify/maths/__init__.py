"""Judges mathematical answers: finds, normalises, parses and compares them; uses symbolic algebra last."""
