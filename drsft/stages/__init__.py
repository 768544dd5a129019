"""The run's stages on Ray: thin functions around the core's."""
