"""Models: a stack of layers that can be trained, measured, asked and saved."""

from fastcnn.models.sequential import Sequential, load_model

__all__ = ["Sequential", "load_model"]
