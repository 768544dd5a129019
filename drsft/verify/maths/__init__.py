"""Judges mathematical answers: finds, cleans, reads and compares them; asks symbolic algebra last."""
