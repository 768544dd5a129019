"""Renders the report's parts with rich for a terminal."""
