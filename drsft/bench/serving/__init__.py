"""Side-by-side measurements of the service."""
