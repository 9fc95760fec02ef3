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
    """N, H, W, C, KH, KW, F, whether there is a bias, SY, SX, top, bottom, left, right.

    One in five has a kernel as high, one in five as wide, as the image. Half have stride 1 and no padding.
    """
    kernel_height, kernel_width = rng.integers(1, 6, size=2)
    height = kernel_height + (0 if rng.random() < 0.2 else rng.integers(5))
    width = kernel_width + (0 if rng.random() < 0.2 else rng.integers(5))
    samples, channels, filters = rng.integers(1, 4), rng.integers(1, 5), rng.integers(1, 6)
    has_bias = rng.integers(2)
    shape = (samples, height, width, channels, kernel_height, kernel_width, filters, has_bias)
    if rng.random() < 0.5:
        return (*shape, 1, 1, 0, 0, 0, 0)
    padding = rng.integers(4, size=4)
    if rng.random() < 0.5:  # the kernel may be larger than the image where the padding makes up for it
        smaller = np.maximum(1, (height - padding[0] - padding[1], width - padding[2] - padding[3]))
        shape = (samples, *smaller, *shape[3:])
    return (*shape, *rng.integers(1, 4, size=2), *padding)


def conv2d_forward(shape: Shape) -> tuple[Any, ...]:
    samples, height, width, channels, kernel_height, kernel_width, filters, has_bias, *steps = shape
    rng = np.random.default_rng(shape)
    x = normal(rng, samples, height, width, channels)
    bias = normal(rng, filters) if has_bias else None
    return (x, normal(rng, kernel_height, kernel_width, channels, filters), bias, *strides_and_padding(*steps))


def conv2d_backward(shape: Shape) -> tuple[Any, ...]:
    """Every other gradient is mostly zeros, as it is behind a max-pooling."""
    x, filters, bias, strides, padding = conv2d_forward(shape)
    rng = np.random.default_rng([*shape, 1])
    grad_y = normal(rng, len(x), *output_size(x.shape, filters.shape, strides, padding), filters.shape[3])
    if bias is None:
        grad_y[rng.random(grad_y.shape) < 0.75] = 0
    return grad_y, x, filters, strides, padding


def maxpool2d_shape(rng: np.random.Generator) -> Shape:
    """As `avgpool2d_shape`; then ties (0 first, 1 all) and levels: so many different values and hence ties;
    0: none."""
    return (*avgpool2d_shape(rng), rng.integers(2), rng.choice([0, 1, 2, 3]))


def maxpool2d_forward(shape: Shape) -> tuple[Any, ...]:
    *windows, ties, levels = shape
    x, pool_size, strides, padding = avgpool2d_forward(tuple(windows))
    if levels:
        x = np.random.default_rng(shape).integers(levels, size=x.shape).astype(np.float32) - 1
        x[x == 1] = -np.inf  # the padding, which is less than any number, must not tie with it
    return x, pool_size, ("first", "all")[ties], strides, padding


def maxpool2d_backward(shape: Shape) -> tuple[Any, ...]:
    x, pool_size, ties, strides, padding = maxpool2d_forward(shape)
    y, winners = reference.maxpool2d_forward(x, pool_size, ties, strides, padding)
    return normal(np.random.default_rng([*shape, 1]), *y.shape), winners, x.shape, pool_size, strides, padding


def avgpool2d_shape(rng: np.random.Generator) -> Shape:
    """N, H, W, C, PH, PW, SY, SX, top, bottom, left, right. Half have windows side by side and no padding;
    the others' windows overlap, leave gaps and reach into the padding."""
    pool = rng.integers(1, 5, size=2)
    image = pool + np.where(rng.random(2) < 0.2, 0, rng.integers(6, size=2))
    samples, channels = rng.integers(1, 4), rng.integers(1, 5)
    if rng.random() < 0.5:
        return (samples, *image, channels, *pool, *pool, 0, 0, 0, 0)
    padding = [rng.integers(size) for size in np.repeat(pool, 2)]
    return (samples, *image, channels, *pool, *rng.integers(1, 5, size=2), *padding)


def avgpool2d_forward(shape: Shape) -> tuple[Any, ...]:
    """Strides that equal the window are left out every other time: that is what None stands for."""
    *image, pool_height, pool_width = shape[:6]
    strides, padding = strides_and_padding(*shape[6:])
    pool_size = (pool_height, pool_width)
    x = normal(np.random.default_rng(shape), *image)
    return x, pool_size, None if strides == pool_size and image[0] % 2 else strides, padding


def avgpool2d_backward(shape: Shape) -> tuple[Any, ...]:
    x, pool_size, strides, padding = avgpool2d_forward(shape)
    size = output_size(x.shape, pool_size, strides or pool_size, padding)
    return (
        normal(np.random.default_rng([*shape, 1]), len(x), *size, x.shape[3]),
        x.shape,
        pool_size,
        strides,
        padding,
    )


def strides_and_padding(
    vertical: int, horizontal: int, top: int, bottom: int, left: int, right: int
) -> tuple[tuple[int, int], tuple[tuple[int, int], tuple[int, int]]]:
    return (vertical, horizontal), ((top, bottom), (left, right))


def output_size(
    images: Shape, window: Shape, strides: tuple[int, int], padding: tuple[tuple[int, int], tuple[int, int]]
) -> Shape:
    """Count the windows one by one: those that end inside the padded image."""
    return tuple(
        sum(start + window[i] <= images[1 + i] + sum(padding[i]) for start in range(0, 1000, strides[i]))
        for i in range(2)
    )


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


def softmax_backward(shape: Shape) -> tuple[Any, ...]:
    """The probabilities need not add up to exactly one, and in float32 they don't."""
    probabilities = reference.softmax(*softmax(shape)).astype(np.float32)
    return normal(np.random.default_rng([*shape, 1]), *probabilities.shape), probabilities


def softmax_cross_entropy_soft(shape: Shape) -> tuple[Any, ...]:
    """Targets in turn: one-hot, smoothed, and of any sign and sum."""
    (logits,), rng = softmax(shape), np.random.default_rng([*shape, 1])
    targets = np.eye(shape[1], dtype=np.float32)[rng.integers(shape[1], size=shape[0])]
    if shape[0] % 3 == 1:
        targets = np.float32(0.9) * targets + np.float32(0.1 / shape[1])
    elif shape[0] % 3 == 2:
        targets = normal(rng, *logits.shape)
    return logits, targets


def mean_squared_error_shape(rng: np.random.Generator) -> Shape:
    """One to four axes."""
    return tuple(rng.integers(1, 9, size=rng.integers(1, 5)))


def mean_squared_error(shape: Shape) -> tuple[Any, ...]:
    rng = np.random.default_rng(shape)
    return normal(rng, *shape), normal(rng, *shape)


ACTIVATIONS = ("relu", "leaky_relu", "sigmoid", "tanh", "gelu")


def activation_shape(rng: np.random.Generator) -> Shape:
    """The activation's number, the numbers' spread, then one to four axes."""
    axes = rng.integers(1, 10, size=rng.integers(1, 5))
    return (rng.integers(len(ACTIVATIONS)), rng.choice([1, 4, 30]), *axes)


def activation_forward(shape: Shape) -> tuple[Any, ...]:
    """With a zero, where relu has its kink; and numbers whose exponential is no float32."""
    which, spread, *axes = shape
    x = (spread * normal(np.random.default_rng(shape), *axes)).astype(np.float32)
    x.flat[0] = 0
    if x.size > 3:
        x.flat[1:3] = 120, -120
    return x, ACTIVATIONS[which], 0.25 if spread == 1 else 0.5


def activation_backward(shape: Shape) -> tuple[Any, ...]:
    arguments = activation_forward(shape)
    return normal(np.random.default_rng([*shape, 1]), *arguments[0].shape), *arguments


def batchnorm_shape(rng: np.random.Generator) -> Shape:
    """How far the mean is from zero, whether in training, then two to four axes."""
    axes = rng.integers(1, 7, size=rng.integers(1, 4))
    return (rng.choice([0, 1, 50]), rng.integers(2), *axes, rng.integers(1, 20))


def batchnorm_forward(shape: Shape) -> tuple[Any, ...]:
    rng = np.random.default_rng(shape)
    (x,), channels = batchnorm_moments(shape), shape[-1]
    mean, variance = (moment.astype(np.float32) for moment in reference.batchnorm_moments(x))
    if not shape[1]:
        mean, variance = mean + normal(rng, channels), variance + normal(rng, channels) ** 2
    return x, normal(rng, channels), normal(rng, channels), mean, variance, 2.0**-10


def batchnorm_moments(shape: Shape) -> tuple[Any, ...]:
    offset, _, *axes = shape
    return ((normal(np.random.default_rng([*shape, 2]), *axes) + offset).astype(np.float32),)


def batchnorm_backward(shape: Shape) -> tuple[Any, ...]:
    x, gamma, _, mean, variance, epsilon = batchnorm_forward(shape)
    grad_y = normal(np.random.default_rng([*shape, 1]), *x.shape)
    return grad_y, x, gamma, mean, variance, epsilon, bool(shape[1])


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


ARGUMENTS: dict[str, tuple[Callable[[np.random.Generator], Shape], Callable[[Shape], tuple[Any, ...]]]] = {
    "conv2d_forward": (conv2d_shape, conv2d_forward),
    "conv2d_backward": (conv2d_shape, conv2d_backward),
    "maxpool2d_forward": (maxpool2d_shape, maxpool2d_forward),
    "maxpool2d_backward": (maxpool2d_shape, maxpool2d_backward),
    "avgpool2d_forward": (avgpool2d_shape, avgpool2d_forward),
    "avgpool2d_backward": (avgpool2d_shape, avgpool2d_backward),
    "dense_forward": (dense_shape, dense_forward),
    "dense_backward": (dense_shape, dense_backward),
    "activation_forward": (activation_shape, activation_forward),
    "activation_backward": (activation_shape, activation_backward),
    "batchnorm_forward": (batchnorm_shape, batchnorm_forward),
    "batchnorm_moments": (batchnorm_shape, batchnorm_moments),
    "batchnorm_backward": (batchnorm_shape, batchnorm_backward),
    "softmax": (softmax_shape, softmax),
    "softmax_backward": (softmax_shape, softmax_backward),
    "softmax_cross_entropy": (softmax_shape, softmax_cross_entropy),
    "softmax_cross_entropy_soft": (softmax_shape, softmax_cross_entropy_soft),
    "mean_squared_error": (mean_squared_error_shape, mean_squared_error),
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
