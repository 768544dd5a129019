"""How the embedded model and its problems were made, and how the model measures up.

`task` makes the problems, `tokenizer` the tokenizer, `train` the model from scratch (`make base-model`), and
`measure` says how well it solves them.
"""
