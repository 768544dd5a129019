"""The rewriting service: an HTTP ingress and engines on Ray Serve, which run the same cascade as the batch
job.
"""
