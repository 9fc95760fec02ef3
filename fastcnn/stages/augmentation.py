"""The stage of layers that transform images at random; numpy over the whole batch, the same on every backend."""

from __future__ import annotations

from types import ModuleType

import numpy as np
from numpy.typing import DTypeLike

from fastcnn.layers.augmentation import RandomTransformation
from fastcnn.layers.base import Array
from fastcnn.stages.stage import Stage


class RandomTransformationStage(Stage):
    """One draw an image, by one thread: the same images on any number of them.

    Args:
        layer, operations: as for every stage.
        generator: what transformations are drawn from, unless the layer has a generator of its own.
    """

    def __init__(self, layer: RandomTransformation, operations: ModuleType, generator: np.random.Generator) -> None:
        super().__init__(layer, operations)
        self.generator: np.random.Generator = layer.generator or generator

    def forward(self, x: Array, training: bool, keep: bool) -> Array:
        self._taps: list[tuple[Array, Array]] | None = None
        if not training:
            return x
        samples, height, width, channels = x.shape
        transforms = self.layer.draw(samples, (height, width), self.generator)
        rows, columns = _positions(transforms, height, width)
        taps = _taps(rows, columns, (height, width), self.layer.interpolation, self.layer.fill_mode, x.dtype)
        pixels = x.reshape(-1, channels)
        y = np.zeros_like(pixels)
        for index, weights in taps:
            y += pixels.take(index, axis=0) * weights[:, None]
        if self.layer.fill_mode == "constant" and self.layer.fill_value:
            outside = 1.0 - np.sum([weights for _, weights in taps], axis=0)
            y += self.layer.fill_value * outside[:, None]
        self._taps = taps if keep else None
        return y.reshape(x.shape)

    def backward(self, grad_y: Array) -> Array:
        """The transposed resampling: what a pixel was read for comes back to it, times the same weight."""
        if self._taps is None:
            return grad_y
        grads = grad_y.reshape(-1, grad_y.shape[-1])
        grad_x = np.zeros(grads.shape)
        for index, weights in self._taps:
            for channel in range(grads.shape[1]):
                grad_x[:, channel] += np.bincount(index, weights * grads[:, channel], len(grads))
        return grad_x.reshape(grad_y.shape).astype(grad_y.dtype)


def _positions(transforms: Array, height: int, width: int) -> tuple[Array, Array]:
    """The rows and columns that the output's pixels are read from, (samples, height, width) when broadcast."""
    rows, columns = np.arange(height)[:, None], np.arange(width)
    factors = transforms[:, :, :, None, None]
    if not transforms[:, [0, 1], [1, 0]].any():  # each row stays a row: (samples, height, 1), (samples, 1, width)
        return factors[:, 0, 0] * rows + factors[:, 0, 2], factors[:, 1, 1] * columns + factors[:, 1, 2]
    both = factors[:, :, 0] * rows + factors[:, :, 1] * columns + factors[:, :, 2]
    return both[:, 0], both[:, 1]


def _taps(
    rows: Array, columns: Array, size: tuple[int, int], interpolation: str, fill_mode: str, dtype: DTypeLike
) -> list[tuple[Array, Array]]:
    """The pixels that every output pixel is a weighted sum of.

    Returns:
        For each pixel of the sum its index in the batch, seen as one row of pixels, and its weight, 0 where it lies
        outside and is not to be filled from inside; both (samples * height * width,).
    """
    first = np.arange(len(rows))[:, None, None] * (size[0] * size[1])
    found = []
    for row, row_weights in _neighbours(rows, size[0], interpolation, fill_mode, dtype):
        for column, column_weights in _neighbours(columns, size[1], interpolation, fill_mode, dtype):
            index = (first + row * size[1]) + column
            found.append((index.reshape(-1), (row_weights * column_weights).reshape(-1)))
    return found


def _neighbours(
    positions: Array, size: int, interpolation: str, fill_mode: str, dtype: DTypeLike
) -> list[tuple[Array, Array]]:
    """The whole positions next to `positions` along one axis, each inside, with their weights."""
    if interpolation == "nearest":
        pairs = [(np.floor(positions + 0.5), np.ones_like(positions))]
    else:
        below = np.floor(positions)
        above = positions - below
        pairs = [(below, 1.0 - above), (below + 1.0, above)]
    return [_inside(whole.astype(np.int64), weights.astype(dtype), size, fill_mode) for whole, weights in pairs]


def _inside(position: Array, weights: Array, size: int, fill_mode: str) -> tuple[Array, Array]:
    if fill_mode == "wrap":
        return position % size, weights
    if fill_mode == "reflect":
        folded = position % (2 * size)
        return np.minimum(folded, 2 * size - 1 - folded), weights
    nearest = np.clip(position, 0, size - 1)
    return nearest, weights if fill_mode == "nearest" else weights * (nearest == position)
