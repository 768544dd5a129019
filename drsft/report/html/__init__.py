"""Renders the report as self-contained HTML pages."""
