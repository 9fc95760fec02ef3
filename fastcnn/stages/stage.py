"""The base of all stages: how one layer, or its activation, runs on a backend."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from fastcnn.layers.base import Array, Parameter


class Stage:
    """How one layer runs on a backend.

    Args:
        layer: the layer, built.
        operations: the backend's module.
    """

    def __init__(self, layer: Any, operations: ModuleType) -> None:
        self.layer = layer
        self.operations = operations
        self.parameters: list[Parameter] = list(layer.parameters.values())
        #: After `backward`: one for every parameter, summed over the samples of `grad_y`.
        self.gradients: list[Array] = []
        #: Whether `backward` shall return a gradient; where it need not, stages with weights return an empty array.
        self.wants_input = True

    def forward(self, x: Array, training: bool, keep: bool) -> Array:
        """The layer's output for a batch.

        Args:
            x: the batch.
            training: whether the layer does what it does in training only: dropout, the batch's own moments.
            keep: whether `backward` follows, so that what it needs is kept.
        """
        raise NotImplementedError

    def backward(self, grad_y: Array) -> Array:
        """The loss' gradient with respect to the input, from that with respect to the output, perhaps in its place."""
        raise NotImplementedError

    def commit(self) -> None:
        """Take over what a step of training changes besides the gradients: moving statistics."""

    @property
    def learns(self) -> bool:
        """Whether training changes one of the parameters by its gradient."""
        return bool(self.layer.trainable) and any(p.trainable for p in self.parameters)

    def value(self, name: str) -> Array | None:
        """One of the layer's weights by name, or None."""
        parameter = self.layer.parameters.get(name)
        return None if parameter is None else parameter.value
