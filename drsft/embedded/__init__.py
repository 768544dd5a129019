"""The task family and the tiny base model that drsft ships, so that a whole run needs neither a hub nor a
GPU.

`task` makes the problems, `tokenizer` the tokenizer, `train_base` trains the base model from scratch, and
`measure` says how it stands. `model/` holds the trained base in Hugging Face format, `data/` the problems of
the quickstart.
"""
