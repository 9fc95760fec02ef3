"""What every side starts from: images in a fixed order, the tutorial's initial weights, the learning rate.

Imports numpy only, because it runs in the peers' environments too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.shapes import ConvShape

Array = NDArray[Any]

#: The network: 8 filters of 3x3 without bias over 28x28 images, 2x2 max-pooling, a dense softmax layer.
FILTERS, CLASSES, POOLED, LEARNING_RATE = 8, 10, 13, 0.005
INPUTS = POOLED * POOLED * FILTERS


@dataclass(frozen=True)
class Problem:
    """Data and weights in the public layouts.

    Attributes:
        images: (60000, 28, 28, 1) uint8, in the order in which they are visited.
        labels: (60000,) int64.
        test_images: (10000, 28, 28, 1) uint8.
        filters: (3, 3, 1, 8) float32.
        weights: (1352, 10) float32, inputs in the order (row, column, filter).
        bias: (10,) float32.
    """

    images: Array
    labels: Array
    test_images: Array
    filters: Array
    weights: Array
    bias: Array

    def save(self, path: Path) -> None:
        """Write it for the worker processes."""
        np.savez(path, **vars(self))

    def first(self, samples: int) -> Problem:
        """The same with so many images of either kind."""
        few = {name: getattr(self, name)[:samples] for name in ("images", "labels", "test_images")}
        return replace(self, **few)

    @classmethod
    def load(cls, path: Path) -> Problem:
        with np.load(path, allow_pickle=False) as file:
            return cls(**{name: file[name] for name in file.files})


def scaled(images: Array) -> Array:
    """Pixels as the network sees them, from -0.5 to 0.5, float32."""
    return np.asarray(images, np.float32) / np.float32(255) - np.float32(0.5)


def make(images: Array, labels: Array, test_images: Array, seed: int = 0) -> Problem:
    """The tutorial's start (randn/9, randn/inputs, zeros), and `images` (N, 28, 28) shuffled once."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(images))
    return Problem(
        images=np.ascontiguousarray(images[order])[..., None],
        labels=labels[order].astype(np.int64),
        test_images=np.ascontiguousarray(test_images)[..., None],
        filters=(rng.standard_normal((3, 3, 1, FILTERS)) / 9).astype(np.float32),
        weights=(rng.standard_normal((INPUTS, CLASSES)) / INPUTS).astype(np.float32),
        bias=np.zeros(CLASSES, np.float32),
    )


def convolution(shape: ConvShape, seed: int = 0) -> tuple[Array, Array, Array]:
    """Images (N, H, W, C), filters (kh, kw, C, F) and a gradient for the output (N, OH, OW, F), float32.

    All normally distributed, no zeros; the filters scaled to give outputs of variance 1.
    """
    rng = np.random.default_rng(seed)
    x, filters, grad_y = (
        rng.standard_normal(size, np.float32) for size in (shape.image_shape, shape.filter_shape, shape.output_shape)
    )
    return x, filters / np.float32(np.sqrt(shape.kh**2 * shape.ic)), grad_y
