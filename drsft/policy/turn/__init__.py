"""Derives the assistant's turn from a model's chat template, once, by rendering test conversations
(probes).
"""
