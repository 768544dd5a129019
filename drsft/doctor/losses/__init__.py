"""The conformance suite of the losses: `drsft doctor losses` computes a file of worked cases."""
