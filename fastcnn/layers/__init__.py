"""Layers under Keras' names. A layer is a declaration; `fastcnn.stages` runs it."""

from __future__ import annotations

from fastcnn.layers.base import Layer
from fastcnn.layers.convolution import Conv2D
from fastcnn.layers.core import Dense, Flatten, Input, Rescaling
from fastcnn.layers.pooling import MaxPooling2D

__all__ = ["LAYERS", "Conv2D", "Dense", "Flatten", "Input", "Layer", "MaxPooling2D", "Rescaling"]

#: Every layer that runs, by name, as model files name them.
LAYERS: dict[str, type[Layer]] = {cls.__name__: cls for cls in (Rescaling, Conv2D, MaxPooling2D, Flatten, Dense)}
