"""What `im2col` and `numba` ask of their arguments, asked once, before any arithmetic.

Each function here has the name and the arguments of an operation (or of one argument that several share),
returns nothing, and raises `ArgumentError` in one line: the argument, what it is, what it must be. All look
at shapes and dtypes only, a few microseconds whatever the arrays' size, except `labels`, which also looks for
its extremes.

No axis may be empty: an empty batch is a mistake of the caller's, not a result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcnn.errors import ArgumentError

Array = NDArray[Any]

IMAGES = "(samples, height, width, channels)"
FILTERS = "(kernel height, kernel width, channels, filters)"


def conv2d(x: Array, filters: Array, bias: Array | None) -> None:
    """Check the arguments of `conv2d_forward`.

    Raises:
        ArgumentError: a shape or a dtype is wrong, or the kernel is larger than the image.
    """
    array("x", x, IMAGES)
    array("filters", filters, FILTERS)
    if filters.shape[2] != x.shape[3]:
        raise ArgumentError(
            f"filters has shape {filters.shape}, for {filters.shape[2]} channels; x has {x.shape[3]} of them"
        )
    if filters.shape[0] > x.shape[1] or filters.shape[1] > x.shape[2]:
        raise ArgumentError(
            f"filters has a kernel of {filters.shape[0]} x {filters.shape[1]}; "
            f"it must fit the images of x, {x.shape[1]} x {x.shape[2]}"
        )
    if bias is not None:
        shape("bias", bias, (filters.shape[3],))


def conv2d_backward(grad_y: Array, x: Array, filters: Array) -> None:
    """Check the arguments of `conv2d_backward`.

    Raises:
        ArgumentError: as for `conv2d`, or `grad_y` has not the shape of the convolution's output.
    """
    conv2d(x, filters, None)
    samples, height, width, _ = x.shape
    kernel_height, kernel_width, _, count = filters.shape
    shape("grad_y", grad_y, (samples, height - kernel_height + 1, width - kernel_width + 1, count))


def maxpool2d(x: Array, pool_size: Sequence[int], ties: str) -> None:
    """Check the arguments of `maxpool2d_forward`.

    Raises:
        ArgumentError: a shape or a dtype is wrong, the window is larger than the image, or `ties` is unknown.
    """
    array("x", x, IMAGES)
    pool(pool_size, x.shape)
    if ties not in ("first", "all"):
        raise ArgumentError(f"ties is {ties!r}; it must be 'first' or 'all'")


def maxpool2d_backward(grad_y: Array, winners: Array, input_shape: Sequence[int], pool_size: Sequence[int]) -> None:
    """Check the arguments of `maxpool2d_backward`.

    Raises:
        ArgumentError: `grad_y` or `winners` is not what `maxpool2d_forward` returns for such an input.
    """
    positive_integers("input_shape", input_shape, IMAGES)
    pool(pool_size, input_shape)
    samples, height, width, channels = input_shape
    output = (samples, height // pool_size[0], width // pool_size[1])
    shape("grad_y", grad_y, (*output, channels))
    shape("winners", winners, (*output, pool_size[0] * pool_size[1], channels))
    if winners.dtype != np.bool_:
        raise ArgumentError(f"winners has dtype {winners.dtype}; it must be bool, as maxpool2d_forward returns it")


def dense(x: Array, weights: Array, bias: Array | None) -> None:
    """Check the arguments of `dense_forward`.

    Raises:
        ArgumentError: a shape or a dtype is wrong.
    """
    array("x", x, "(samples, inputs)")
    array("weights", weights, "(inputs, units)")
    if weights.shape[0] != x.shape[1]:
        raise ArgumentError(
            f"weights has shape {weights.shape}, for {weights.shape[0]} inputs; x has {x.shape[1]} of them"
        )
    if bias is not None:
        shape("bias", bias, (weights.shape[1],))


def dense_backward(grad_y: Array, x: Array, weights: Array) -> None:
    """Check the arguments of `dense_backward`.

    Raises:
        ArgumentError: as for `dense`, or `grad_y` has not the shape of the layer's output.
    """
    dense(x, weights, None)
    shape("grad_y", grad_y, (x.shape[0], weights.shape[1]))


def logits(logits: Array) -> None:
    """Check the argument of `softmax`.

    Raises:
        ArgumentError: it is not a matrix of real numbers.
    """
    array("logits", logits, "(samples, classes)")


def labels(labels: Array, samples: int, classes: int) -> None:
    """Check that `labels` holds one class number from 0 to `classes` - 1 for each of `samples` samples.

    Raises:
        ArgumentError: the dtype is not an integer's, the length is wrong, or a label is out of range.
    """
    shape("labels", labels, (samples,))
    if labels.dtype.kind not in "iu":
        raise ArgumentError(f"labels has dtype {labels.dtype}; it must be an integer one, a class number a sample")
    for label in (labels.min(), labels.max()):
        if not 0 <= label < classes:
            raise ArgumentError(f"labels holds {label}; with {classes} classes it must be from 0 to {classes - 1}")


def pool(pool_size: Sequence[int], input_shape: Sequence[int]) -> None:
    """Check that a pooling window is two positive integers and fits an input of `input_shape` (N, H, W, C).

    Raises:
        ArgumentError: it is not, or does not.
    """
    positive_integers("pool_size", pool_size, "(height, width)")
    if pool_size[0] > input_shape[1] or pool_size[1] > input_shape[2]:
        raise ArgumentError(
            f"pool_size is {tuple(pool_size)}; it must fit the images, {input_shape[1]} x {input_shape[2]}"
        )


def array(name: str, value: Array, axes: str) -> None:
    """Check that `value` is an array of real numbers with one axis, never empty, for each name in `axes`.

    Raises:
        ArgumentError: it is something else.
    """
    if not isinstance(value, np.ndarray):
        raise ArgumentError(f"{name} is a {type(value).__name__}; it must be a numpy array {axes}")
    if value.ndim != axes.count(",") + 1:
        raise ArgumentError(f"{name} has shape {value.shape}; it must be {axes}")
    _holds_numbers(name, value)
    if 0 in value.shape:
        raise ArgumentError(f"{name} has shape {value.shape}; each axis of {axes} needs at least one element")


def shape(name: str, value: Array, expected: tuple[int, ...]) -> None:
    """Check that `value` is an array of real numbers of exactly the shape `expected`.

    Raises:
        ArgumentError: it is something else.
    """
    if not isinstance(value, np.ndarray):
        raise ArgumentError(f"{name} is a {type(value).__name__}; it must be a numpy array of shape {expected}")
    if value.shape != expected:
        raise ArgumentError(f"{name} has shape {value.shape}; it must be {expected}")
    _holds_numbers(name, value)


def positive_integers(name: str, value: Sequence[int], axes: str) -> None:
    """Check that `value` is a tuple or list with one positive integer for each name in `axes`.

    Raises:
        ArgumentError: it is something else.
    """
    if (
        not isinstance(value, (tuple, list))
        or len(value) != axes.count(",") + 1
        or not all(isinstance(entry, (int, np.integer)) and entry > 0 for entry in value)
    ):
        raise ArgumentError(f"{name} is {value!r}; it must be positive integers {axes}")


def _holds_numbers(name: str, value: Array) -> None:
    if value.dtype.kind not in "fiub":
        raise ArgumentError(f"{name} has dtype {value.dtype}; it must hold real numbers")
