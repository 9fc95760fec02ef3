"""Stages of layers that scale, reshape, pad or drop numbers; the same few lines of numpy on every backend."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def draws(seed: int, count: int) -> NDArray[np.uint16]:
    """Whole numbers of 16 bits, as many as wanted, each computed from the seed and its place alone.

    They are quarters of what splitmix64 gives: Steele, Lea and Flood, "Fast splittable pseudorandom number
    generators", 2014, figure 17.
    """
    steps = np.arange(1, -(-count // 4) + 1, dtype=np.uint64)
    z = np.uint64(seed) + steps * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))).view(np.uint16)[:count]


class DropoutStage(Stage):
    """One number a batch tells the whole mask: the same on any backend and any number of threads.

    Args:
        layer, operations: as for every stage.
        generator: what those numbers are drawn from, unless the layer has a generator of its own.
    """

    def __init__(self, layer: Any, operations: ModuleType, generator: np.random.Generator) -> None:
        super().__init__(layer, operations)
        self.generator: np.random.Generator = layer.generator or generator
        self._seed: int | None = None

    def forward(self, x: Array, training: bool, keep: bool) -> Array:
        drops = training and self.layer.rate > 0.0
        self._seed = self.generator.bit_generator.random_raw() if drops else None
        return x if self._seed is None else self._masked(x, self._seed)

    def backward(self, grad_y: Array) -> Array:
        return grad_y if self._seed is None else self._masked(grad_y, self._seed)

    def _masked(self, x: Array, seed: int) -> Array:
        """`x` with the mask's elements set to zero, the others divided by their share."""
        dropped, factor = self._terms()
        kept = (draws(seed, x.size) >= dropped).reshape(x.shape)
        y: Array = x * np.multiply(kept, x.dtype.type(factor), dtype=x.dtype)
        return y

    def _terms(self) -> tuple[int, float]:
        """The least draw whose element is kept, and what that is multiplied with."""
        return min(round(self.layer.rate * _DRAWS), _DRAWS - 1), 1.0 / (1.0 - self.layer.rate)
