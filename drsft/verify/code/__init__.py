"""Python solutions against unit tests, in a sandbox."""
