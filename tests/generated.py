"""Generated shapes for every operation, the arguments of each, and what the reference makes of them.

A shape is a tuple of integers, and the seed of its arguments: the same everywhere and in every run. They are
sorted by size, so that the first failure is the simplest. Reference results are computed once for all
backends.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from tolerance import Truth, truths

from fastcnn.backends import reference

Shape = tuple[int, ...]
SHAPES_PER_OPERATION = 500


def conv2d_shape(rng: np.random.Generator) -> Shape:
    """N, H, W, C, KH, KW, F, whether there is a bias. One in five has a kernel as high, one in five as wide,
    as the image."""
    kernel_height, kernel_width = rng.integers(1, 6, size=2)
    height = kernel_height + (0 if rng.random() < 0.2 else rng.integers(5))
    width = kernel_width + (0 if rng.random() < 0.2 else rng.integers(5))
    samples, channels, filters = rng.integers(1, 4), rng.integers(1, 5), rng.integers(1, 6)
    return (samples, height, width, channels, kernel_height, kernel_width, filters, rng.integers(2))


def conv2d_forward(shape: Shape) -> tuple[Any, ...]:
    samples, height, width, channels, kernel_height, kernel_width, filters, has_bias = shape
    rng = np.random.default_rng(shape)
    x = normal(rng, samples, height, width, channels)
    bias = normal(rng, filters) if has_bias else None
    return x, normal(rng, kernel_height, kernel_width, channels, filters), bias


def conv2d_backward(shape: Shape) -> tuple[Any, ...]:
    """Every other gradient is mostly zeros, as it is behind a max-pooling."""
    x, filters, bias = conv2d_forward(shape)
    rng = np.random.default_rng([*shape, 1])
    (samples, height, width, _), (kernel_height, kernel_width, _, count) = x.shape, filters.shape
    grad_y = normal(rng, samples, height - kernel_height + 1, width - kernel_width + 1, count)
    if bias is None:
        grad_y[rng.random(grad_y.shape) < 0.75] = 0
    return grad_y, x, filters


def maxpool2d_shape(rng: np.random.Generator) -> Shape:
    """N, H, W, C, PH, PW, ties (0 first, 1 all), levels: so many different values and hence ties; 0: none."""
    pool_height, pool_width = rng.integers(1, 5, size=2)
    height, width = pool_height + rng.integers(6), pool_width + rng.integers(6)
    samples, channels, levels = rng.integers(1, 4), rng.integers(1, 5), rng.choice([0, 1, 2, 3])
    return (samples, height, width, channels, pool_height, pool_width, rng.integers(2), levels)


def maxpool2d_forward(shape: Shape) -> tuple[Any, ...]:
    *image, pool_height, pool_width, ties, levels = shape
    rng = np.random.default_rng(shape)
    x = rng.integers(levels, size=image).astype(np.float32) - 1 if levels else normal(rng, *image)
    return x, (pool_height, pool_width), ("first", "all")[ties]


def maxpool2d_backward(shape: Shape) -> tuple[Any, ...]:
    x, pool_size, ties = maxpool2d_forward(shape)
    y, winners = reference.maxpool2d_forward(x, pool_size, ties)
    return normal(np.random.default_rng([*shape, 1]), *y.shape), winners, x.shape, pool_size


def dense_shape(rng: np.random.Generator) -> Shape:
    """N, D, U, whether there is a bias."""
    return (rng.integers(1, 8), rng.integers(1, 41), rng.integers(1, 21), rng.integers(2))


def dense_forward(shape: Shape) -> tuple[Any, ...]:
    samples, inputs, units, has_bias = shape
    rng = np.random.default_rng(shape)
    bias = normal(rng, units) if has_bias else None
    return normal(rng, samples, inputs), normal(rng, inputs, units), bias


def dense_backward(shape: Shape) -> tuple[Any, ...]:
    x, weights, _ = dense_forward(shape)
    return normal(np.random.default_rng([*shape, 1]), len(x), weights.shape[1]), x, weights


def softmax_shape(rng: np.random.Generator) -> Shape:
    """N, K, and the logits' spread: from all nearly equal to one class taking all."""
    return (rng.integers(1, 25), rng.integers(1, 41), rng.choice([0, 1, 10, 100]))


def softmax(shape: Shape) -> tuple[Any, ...]:
    samples, classes, spread = shape
    rng = np.random.default_rng(shape)
    return ((spread * normal(rng, samples, classes) + normal(rng, samples, 1)).astype(np.float32),)


def softmax_cross_entropy(shape: Shape) -> tuple[Any, ...]:
    return (*softmax(shape), np.random.default_rng([*shape, 1]).integers(shape[1], size=shape[0]))


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


ARGUMENTS: dict[str, tuple[Callable[[np.random.Generator], Shape], Callable[[Shape], tuple[Any, ...]]]] = {
    "conv2d_forward": (conv2d_shape, conv2d_forward),
    "conv2d_backward": (conv2d_shape, conv2d_backward),
    "maxpool2d_forward": (maxpool2d_shape, maxpool2d_forward),
    "maxpool2d_backward": (maxpool2d_shape, maxpool2d_backward),
    "dense_forward": (dense_shape, dense_forward),
    "dense_backward": (dense_shape, dense_backward),
    "softmax": (softmax_shape, softmax),
    "softmax_cross_entropy": (softmax_shape, softmax_cross_entropy),
}


@functools.cache
def shapes(operation: str) -> list[Shape]:
    draw, rng = ARGUMENTS[operation][0], np.random.default_rng(2016)
    different: set[Shape] = set()
    while len(different) < SHAPES_PER_OPERATION:
        different.add(tuple(int(size) for size in draw(rng)))
    return sorted(different, key=lambda shape: math.prod(size + 1 for size in shape))


@functools.cache
def case(operation: str, shape: Shape) -> tuple[tuple[Any, ...], list[Truth]]:
    arguments = ARGUMENTS[operation][1](shape)
    return arguments, truths(operation, arguments, np.float32)


def in_float64(argument: Any) -> Any:
    """Return arrays of floats in float64, everything else as it is."""
    if isinstance(argument, np.ndarray) and argument.dtype.kind == "f":
        return argument.astype(np.float64)
    return argument
