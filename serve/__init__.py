"""The rewriting service: an HTTP ingress and engines on Ray Serve, around the batch job's own cascade."""
