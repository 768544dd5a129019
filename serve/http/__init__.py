"""The HTTP side of the service: routes, bodies, errors, streams."""
