"""Implements `drsft doctor`: checks this machine, a store, a chat template, and the losses."""
