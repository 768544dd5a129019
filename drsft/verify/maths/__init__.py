"""Judges mathematical answers: finds, cleans, reads and compares them, with a symbolic step as the last
resort.
"""
