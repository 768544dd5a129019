"""Implements `drsft doctor losses`: computes drsft's losses on a file of worked cases, and compares them."""
