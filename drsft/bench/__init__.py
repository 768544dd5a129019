"""Measures drsft side by side with other tools, both in the same run.

A peer is the tool or loop that drsft is compared with; a side is drsft or a peer.
"""
