"""The formats of problem files: how bytes become text, a reader a format, and which one a file has."""
