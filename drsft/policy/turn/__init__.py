"""Derives the layout of the assistant's turn, which is what a chat template writes around an answer, from
test conversations that the template renders.
"""
