"""Makes a first configuration that runs from a file, a model and a machine."""
