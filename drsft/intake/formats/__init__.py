"""Reads the formats of problem files: decoding of bytes, one reader per format, and detection of the
format.
"""
