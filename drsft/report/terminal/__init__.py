"""The report's parts as rich renderables for a terminal."""
