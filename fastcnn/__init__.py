"""fastcnn: train convolutional networks on a CPU, from Python, at the speed the silicon allows.

Importing this package is cheap: the compiler and the kernels are loaded when a network first runs.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from fastcnn import absent

if TYPE_CHECKING:
    from fastcnn.blog import Conv3x3, MaxPool2, Softmax
    from fastcnn.layers import Input
    from fastcnn.models import Sequential

__version__ = "0.1.0"

__all__ = ["Conv3x3", "Input", "MaxPool2", "Sequential", "Softmax", "__version__"]

_HOME = {
    "Conv3x3": "fastcnn.blog",
    "MaxPool2": "fastcnn.blog",
    "Softmax": "fastcnn.blog",
    "Input": "fastcnn.layers",
    "Sequential": "fastcnn.models",
}
_MODULES = (
    "backend",
    "backends",
    "callbacks",
    "datasets",
    "errors",
    "initializers",
    "layers",
    "losses",
    "models",
    "optimizers",
    "recipes",
    "utils",
)
_absent = absent.getter(__name__)
if absent.Finder not in sys.meta_path:
    sys.meta_path.append(absent.Finder)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"fastcnn.{name}")
    return _absent(name)


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES])
