"""From a file, a model and a machine to a first configuration that runs."""
