"""drsft: rewrite expert solutions into data the target model could have written, then fine-tune on it."""

__all__ = ["__version__"]

__version__ = "0.1.0"
