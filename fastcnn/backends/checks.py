"""What `im2col` and `numba` ask of their arguments, asked once, before any arithmetic.

Each function here has the name and the arguments of an operation (or of one argument that several share),
returns nothing (`output_size` alone does), and raises `ArgumentError` in one line: the argument, what it is,
what it must be. All look at shapes and dtypes only, a few microseconds whatever the arrays' size, except
`labels`, which also looks for its extremes.

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


Padding = Sequence[Sequence[int]]

ACTIVATIONS = ("relu", "leaky_relu", "sigmoid", "tanh", "gelu")
NO_PADDING = ((0, 0), (0, 0))


def output_size(
    input_shape: Sequence[int], window: Sequence[int], strides: Sequence[int], padding: Padding
) -> tuple[int, int]:
    """Return how many windows fit below and beside one another into padded images: the output's height and width.

    Args:
        input_shape: the images', (samples, height, width, channels).
        window: (height, width).
        strides: from one window to the next, (vertical, horizontal).
        padding: ((top, bottom), (left, right)).
    """
    (top, bottom), (left, right) = padding
    rows = (input_shape[1] + top + bottom - window[0]) // strides[0] + 1
    columns = (input_shape[2] + left + right - window[1]) // strides[1] + 1
    return int(rows), int(columns)


def conv2d(
    x: Array, filters: Array, bias: Array | None, strides: Sequence[int] = (1, 1), padding: Padding = NO_PADDING
) -> None:
    """Check the arguments of `conv2d_forward`.

    Raises:
        ArgumentError: a shape or a dtype is wrong, or the kernel is larger than the padded image.
    """
    array("x", x, IMAGES)
    array("filters", filters, FILTERS)
    if filters.shape[2] != x.shape[3]:
        raise ArgumentError(
            f"filters has shape {filters.shape}, for {filters.shape[2]} channels; x has {x.shape[3]} of them"
        )
    steps(strides, padding)
    if not _fits(filters.shape[:2], x.shape, padding):
        raise ArgumentError(
            f"filters has a kernel of {filters.shape[0]} x {filters.shape[1]}; "
            f"it must fit the images of x, {_padded(x.shape, padding)}"
        )
    if bias is not None:
        shape("bias", bias, (filters.shape[3],))


def conv2d_backward(
    grad_y: Array, x: Array, filters: Array, strides: Sequence[int] = (1, 1), padding: Padding = NO_PADDING
) -> None:
    """Check the arguments of `conv2d_backward`.

    Raises:
        ArgumentError: as for `conv2d`, or `grad_y` has not the shape of the convolution's output.
    """
    conv2d(x, filters, None, strides, padding)
    rows, columns = output_size(x.shape, filters.shape[:2], strides, padding)
    shape("grad_y", grad_y, (x.shape[0], rows, columns, filters.shape[3]))


def maxpool2d(
    x: Array,
    pool_size: Sequence[int],
    ties: str,
    strides: Sequence[int] | None = None,
    padding: Padding = NO_PADDING,
) -> None:
    """Check the arguments of `maxpool2d_forward`.

    Raises:
        ArgumentError: as for `avgpool2d`, or `ties` is unknown.
    """
    avgpool2d(x, pool_size, strides, padding)
    if ties not in ("first", "all"):
        raise ArgumentError(f"ties is {ties!r}; it must be 'first' or 'all'")


def maxpool2d_backward(
    grad_y: Array,
    winners: Array,
    input_shape: Sequence[int],
    pool_size: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: Padding = NO_PADDING,
) -> None:
    """Check the arguments of `maxpool2d_backward`.

    Raises:
        ArgumentError: `grad_y` or `winners` is not what `maxpool2d_forward` returns for such an input.
    """
    avgpool2d_backward(grad_y, input_shape, pool_size, strides, padding)
    shape("winners", winners, (*grad_y.shape[:3], pool_size[0] * pool_size[1], grad_y.shape[3]))
    if winners.dtype != np.bool_:
        raise ArgumentError(f"winners has dtype {winners.dtype}; it must be bool, as maxpool2d_forward returns it")


def avgpool2d(
    x: Array, pool_size: Sequence[int], strides: Sequence[int] | None = None, padding: Padding = NO_PADDING
) -> None:
    """Check the arguments of `avgpool2d_forward`.

    Raises:
        ArgumentError: a shape or a dtype is wrong, the window is larger than the padded image, or the padding not
            smaller than the window.
    """
    array("x", x, IMAGES)
    pool(pool_size, x.shape, strides, padding)


def avgpool2d_backward(
    grad_y: Array,
    input_shape: Sequence[int],
    pool_size: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: Padding = NO_PADDING,
) -> None:
    """Check the arguments of `avgpool2d_backward`.

    Raises:
        ArgumentError: `grad_y` has not the shape that pooling such an input gives.
    """
    positive_integers("input_shape", input_shape, IMAGES)
    pool(pool_size, input_shape, strides, padding)
    rows, columns = output_size(input_shape, pool_size, strides or pool_size, padding)
    shape("grad_y", grad_y, (input_shape[0], rows, columns, input_shape[3]))


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


def activation(x: Array, name: str, slope: float) -> None:
    """Check the arguments of `activation_forward`.

    Raises:
        ArgumentError: `x` is no array of real numbers, the name is unknown, or the slope no number.
    """
    numbers("x", x)
    if name not in ACTIVATIONS:
        raise ArgumentError(f"name is {name!r}; it must be one of {', '.join(map(repr, ACTIVATIONS))}")
    number("slope", slope)


def activation_backward(grad_y: Array, x: Array, name: str, slope: float) -> None:
    """Check the arguments of `activation_backward`.

    Raises:
        ArgumentError: as for `activation`, or `grad_y` has not the shape of `x`.
    """
    activation(x, name, slope)
    shape("grad_y", grad_y, x.shape)


def batchnorm(x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, epsilon: float) -> None:
    """Check the arguments of `batchnorm_forward`.

    Raises:
        ArgumentError: a shape or a dtype is wrong, or epsilon is no number.
    """
    batchnorm_moments(x)
    for name, value in (("gamma", gamma), ("beta", beta), ("mean", mean), ("variance", variance)):
        shape(name, value, x.shape[-1:])
    number("epsilon", epsilon)


def batchnorm_moments(x: Array) -> None:
    """Check the argument of `batchnorm_moments`.

    Raises:
        ArgumentError: it is no array of real numbers with at least two axes.
    """
    numbers("x", x)
    if x.ndim < 2:
        raise ArgumentError(f"x has shape {x.shape}; it must be (samples, ..., channels)")


def batchnorm_backward(
    grad_y: Array, x: Array, gamma: Array, mean: Array, variance: Array, epsilon: float, training: bool
) -> None:
    """Check the arguments of `batchnorm_backward`.

    Raises:
        ArgumentError: as for `batchnorm`, `grad_y` has not the shape of `x`, or training is no bool.
    """
    batchnorm(x, gamma, gamma, mean, variance, epsilon)
    shape("grad_y", grad_y, x.shape)
    if not isinstance(training, (bool, np.bool_)):
        raise ArgumentError(f"training is {training!r}; it must be True or False")


def logits(logits: Array) -> None:
    """Check the argument of `softmax`.

    Raises:
        ArgumentError: it is not a matrix of real numbers.
    """
    array("logits", logits, "(samples, classes)")


def softmax_backward(grad_y: Array, y: Array) -> None:
    """Check the arguments of `softmax_backward`.

    Raises:
        ArgumentError: they are not two matrices of one shape.
    """
    array("y", y, "(samples, classes)")
    shape("grad_y", grad_y, y.shape)


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


def mean_squared_error(predictions: Array, targets: Array) -> None:
    """Check the arguments of `mean_squared_error`.

    Raises:
        ArgumentError: they are not two arrays of real numbers of one shape.
    """
    numbers("predictions", predictions)
    shape("targets", targets, predictions.shape)


def pool(
    pool_size: Sequence[int],
    input_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: Padding = NO_PADDING,
) -> None:
    """Check that a pooling window fits padded images of `input_shape` (N, H, W, C), and each covers a real pixel.

    Raises:
        ArgumentError: it is not two positive integers, does not fit, or the padding is as large as the window.
    """
    positive_integers("pool_size", pool_size, "(height, width)")
    steps(pool_size if strides is None else strides, padding)
    if not _fits(pool_size, input_shape, padding):
        raise ArgumentError(f"pool_size is {tuple(pool_size)}; it must fit the images, {_padded(input_shape, padding)}")
    if any(max(sides) >= size for sides, size in zip(padding, pool_size, strict=True)):
        raise ArgumentError(f"padding is {padding!r}; it must be smaller than the window, {tuple(pool_size)}")


def steps(strides: Sequence[int], padding: Padding) -> None:
    """Check the strides, two positive integers, and the padding, four integers of at least 0 in two pairs.

    Raises:
        ArgumentError: they are something else.
    """
    positive_integers("strides", strides, "(vertical, horizontal)")
    if not (
        _is_pair(padding)
        and all(
            _is_pair(sides) and all(isinstance(p, (int, np.integer)) and p >= 0 for p in sides) for sides in padding
        )
    ):
        raise ArgumentError(f"padding is {padding!r}; it must be ((top, bottom), (left, right)), integers from 0 on")


def number(name: str, value: float) -> None:
    """Check that `value` is one real number; raise ArgumentError where not."""
    if not isinstance(value, (int, float, np.integer, np.floating)):
        raise ArgumentError(f"{name} is {value!r}; it must be a number")


def numbers(name: str, value: Array) -> None:
    """Check that `value` is an array of real numbers of any shape, but not empty and not a single number.

    Raises:
        ArgumentError: it is something else.
    """
    if not isinstance(value, np.ndarray):
        raise ArgumentError(f"{name} is a {type(value).__name__}; it must be a numpy array")
    _holds_numbers(name, value)
    if value.ndim == 0 or value.size == 0:
        raise ArgumentError(f"{name} has shape {value.shape}; it must have axes, each with at least one element")


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


def _fits(window: Sequence[int], input_shape: Sequence[int], padding: Padding) -> bool:
    return all(window[i] <= input_shape[1 + i] + sum(padding[i]) for i in range(2))


def _padded(input_shape: Sequence[int], padding: Padding) -> str:
    height, width = (input_shape[1 + i] + sum(padding[i]) for i in range(2))
    return f"{height} x {width}" + (" with their padding" if (height, width) != tuple(input_shape[1:3]) else "")


def _is_pair(value: object) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2
