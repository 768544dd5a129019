"""The tiny base model that drsft ships (`model/`, in Hugging Face format) and its problems (`data/`).

With them, a complete run needs neither the Hugging Face hub nor a GPU. The code in tests/base_model makes
both.
"""
