"""Optimizers under Keras' names. Only they write a model's weights (and the fused plan: plain SGD)."""

from __future__ import annotations

from typing import Any

from fastcnn import absent, arguments
from fastcnn.errors import ArgumentError
from fastcnn.optimizers import schedules
from fastcnn.optimizers.adaptive import Adadelta, Adam, AdamW, RMSprop
from fastcnn.optimizers.base import Optimizer
from fastcnn.optimizers.sgd import SGD

__all__ = [
    "OPTIMIZERS",
    "SGD",
    "Adadelta",
    "Adam",
    "AdamW",
    "Optimizer",
    "RMSprop",
    "get",
    "schedules",
    "serialize",
]

OPTIMIZERS: dict[str, type[SGD] | type[Adam] | type[AdamW] | type[RMSprop] | type[Adadelta]] = {
    "sgd": SGD,
    "adam": Adam,
    "adamw": AdamW,
    "rmsprop": RMSprop,
    "adadelta": Adadelta,
}
_CLASSES = {cls.__name__: cls for cls in OPTIMIZERS.values()}


def get(optimizer: str | Optimizer | dict[str, Any]) -> Optimizer:
    """The optimizer called so, described so (`serialize`), or itself.

    Raises:
        ArgumentError: there is none of that name.
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, dict) and optimizer.get("class") in _CLASSES:
        return _CLASSES[optimizer["class"]](**optimizer.get("config", {}))
    if isinstance(optimizer, str):
        cls = OPTIMIZERS.get(optimizer.lower())
        if cls is not None:
            return cls()
    raise ArgumentError(f"optimizer={optimizer!r} is unknown; there are: {arguments.listing(OPTIMIZERS)}")


def serialize(optimizer: Optimizer) -> dict[str, Any]:
    """A description of `optimizer` fit for JSON, which `get` reads."""
    return {"class": type(optimizer).__name__, "config": optimizer.get_config()}


__getattr__ = absent.getter(__name__)
