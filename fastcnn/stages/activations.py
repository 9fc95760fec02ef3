"""Stages of activations, whether they are layers or another layer's argument."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from fastcnn.layers import LeakyReLU, ReLU, Softmax
from fastcnn.layers.base import Array
from fastcnn.stages.stage import Stage


class ActivationStage(Stage):
    """An activation that takes each number by itself.

    Args:
        layer, operations: as for every stage; the layer's weights are left to its own stage.
        name: as `activation_forward` calls it.
        slope: of ``"leaky_relu"``.
    """

    def __init__(self, layer: Any, operations: ModuleType, name: str, slope: float = 0.0) -> None:
        super().__init__(layer, operations)
        self.parameters = []
        self._name = name
        self._slope = slope

    def forward(self, x: Array, training: bool, keep: bool) -> Array:
        self._x = x if keep else None
        y: Array = self.operations.activation_forward(x, self._name, self._slope)
        return y

    def backward(self, grad_y: Array) -> Array:
        grad_x: Array = self.operations.activation_backward(grad_y, self._x, self._name, self._slope)
        return grad_x


class SoftmaxStage(Stage):
    """Softmax over the last axis; all other axes count as samples."""

    def __init__(self, layer: Any, operations: ModuleType) -> None:
        super().__init__(layer, operations)
        self.parameters = []

    def forward(self, x: Array, training: bool, keep: bool) -> Array:
        rows: Array = self.operations.softmax(x.reshape(-1, x.shape[-1]))
        self._rows = rows if keep else None
        return rows.reshape(x.shape)

    def backward(self, grad_y: Array) -> Array:
        grads = grad_y.reshape(-1, grad_y.shape[-1])
        grad_x: Array = self.operations.softmax_backward(grads, self._rows)
        return grad_x.reshape(grad_y.shape)


def of(layer: Any, operations: ModuleType) -> list[Stage]:
    """The stage of a layer's activation, or none where that is linear."""
    if isinstance(layer, (LeakyReLU, ReLU)):
        name = "leaky_relu" if layer.negative_slope else "relu"
        return [ActivationStage(layer, operations, name, layer.negative_slope)]
    name = "softmax" if isinstance(layer, Softmax) else getattr(layer, "activation", "linear")
    if name == "linear":
        return []
    return [SoftmaxStage(layer, operations)] if name == "softmax" else [ActivationStage(layer, operations, name)]
