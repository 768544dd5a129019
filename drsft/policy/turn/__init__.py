"""Derives the layout of the assistant's turn (what surrounds an answer) from renderings of a model's chat
template.
"""
