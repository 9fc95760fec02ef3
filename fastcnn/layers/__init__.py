"""Layers under Keras' names. A layer is a declaration; `fastcnn.stages` runs it."""

from __future__ import annotations

from fastcnn import absent
from fastcnn.layers.activations import Activation, LeakyReLU, ReLU, Softmax
from fastcnn.layers.augmentation import RandomFlip, RandomRotation, RandomTranslation, RandomZoom
from fastcnn.layers.base import Layer
from fastcnn.layers.convolution import Conv2D, ZeroPadding2D
from fastcnn.layers.core import Dense, Flatten, Input, Rescaling, Reshape
from fastcnn.layers.pooling import AveragePooling2D, GlobalAveragePooling2D, GlobalMaxPooling2D, MaxPooling2D
from fastcnn.layers.regularization import BatchNormalization, Dropout

__all__ = [
    "LAYERS",
    "Activation",
    "AveragePooling2D",
    "BatchNormalization",
    "Conv2D",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling2D",
    "Input",
    "Layer",
    "LeakyReLU",
    "MaxPooling2D",
    "RandomFlip",
    "RandomRotation",
    "RandomTranslation",
    "RandomZoom",
    "ReLU",
    "Rescaling",
    "Reshape",
    "Softmax",
    "ZeroPadding2D",
]

#: Other names that Keras has for the same.
Convolution2D = Conv2D
MaxPool2D, AvgPool2D = MaxPooling2D, AveragePooling2D
GlobalMaxPool2D, GlobalAvgPool2D = GlobalMaxPooling2D, GlobalAveragePooling2D

#: Every layer that runs, by name, as model files name them.
LAYERS: dict[str, type[Layer]] = {
    cls.__name__: cls
    for cls in (
        Rescaling,
        RandomTranslation,
        RandomRotation,
        RandomZoom,
        RandomFlip,
        Conv2D,
        ZeroPadding2D,
        MaxPooling2D,
        AveragePooling2D,
        GlobalAveragePooling2D,
        GlobalMaxPooling2D,
        BatchNormalization,
        Dropout,
        Activation,
        ReLU,
        LeakyReLU,
        Softmax,
        Flatten,
        Reshape,
        Dense,
    )
}

__getattr__ = absent.getter(__name__)
