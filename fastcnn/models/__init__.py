"""Models: a stack of layers that can be trained, measured, asked and saved."""

from fastcnn import absent
from fastcnn.models.loading import load_model
from fastcnn.models.sequential import Gradients, Sequential

__all__ = ["Gradients", "Sequential", "load_model"]

__getattr__ = absent.getter(__name__)
