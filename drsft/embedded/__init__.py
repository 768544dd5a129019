"""The tiny base model that drsft ships (`model/`, in Hugging Face format) and its problems (`data/`).

With them a whole run needs neither a hub nor a GPU. tests/base_model makes both again.
"""
