"""What a notebook or a script imports from `drsft`: functions over the core, without a cluster."""
