"""Stages of layers that scale, reshape, pad or drop numbers; the same few lines of numpy on every backend."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from fastcnn.layers.base import Array
from fastcnn.stages.stage import Stage


class RescalingStage(Stage):
    def forward(self, x: Array, training: bool, keep: bool) -> Array:
        y: Array = x * x.dtype.type(self.layer.scale) + x.dtype.type(self.layer.offset)
        return y

    def backward(self, grad_y: Array) -> Array:
        grad_x: Array = grad_y * grad_y.dtype.type(self.layer.scale)
        return grad_x


class ReshapeStage(Stage):
    """Flatten and Reshape."""

    def forward(self, x: Array, training: bool, keep: bool) -> Array:
        self._shape = x.shape
        y: Array = x.reshape(len(x), *self.layer.output_shape)
        return y

    def backward(self, grad_y: Array) -> Array:
        grad_x: Array = grad_y.reshape(self._shape)
        return grad_x


class ZeroPadding2DStage(Stage):
    def forward(self, x: Array, training: bool, keep: bool) -> Array:
        return np.pad(x, ((0, 0), *self.layer.padding, (0, 0)))

    def backward(self, grad_y: Array) -> Array:
        height, width, _ = self.layer.input_shape
        (above, _), (left, _) = self.layer.padding
        return np.ascontiguousarray(grad_y[:, above : above + height, left : left + width])


#: Dropout draws whole numbers below this: the share of numbers that it drops is the rate, rounded to 16 bits.
_DRAWS = 1 << 16


class DropoutStage(Stage):
    """One draw a batch, by one thread: the same mask on any number of them.

    Four numbers of 16 bits are made of each that the generator gives: a float for each would take four times as long.

    Args:
        layer, operations: as for every stage.
        generator: what masks are drawn from, unless the layer has a generator of its own.
    """

    def __init__(self, layer: Any, operations: ModuleType, generator: np.random.Generator) -> None:
        super().__init__(layer, operations)
        self.generator: np.random.Generator = layer.generator or generator

    def forward(self, x: Array, training: bool, keep: bool) -> Array:
        self._factors: Array | None = None
        if not training or self.layer.rate == 0.0:
            return x
        dropped = min(round(self.layer.rate * _DRAWS), _DRAWS - 1)
        draws = self.generator.bit_generator.random_raw(-(-x.size // 4)).view(np.uint16)[: x.size]
        kept = (draws >= dropped).reshape(x.shape)
        self._factors = np.multiply(kept, x.dtype.type(1.0 / (1.0 - self.layer.rate)), dtype=x.dtype)
        y: Array = x * self._factors
        return y

    def backward(self, grad_y: Array) -> Array:
        return grad_y if self._factors is None else grad_y * self._factors
