"""What every loop starts from: arguments as float64 arrays of the right shape, and how often a window fits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Padding = tuple[tuple[int, int], tuple[int, int]]


def array(name: str, values: ArrayLike, axes: str, shape: tuple[int, ...] | None = None) -> FloatArray:
    """Return `values` as float64 with the given axes, none of them empty, or of exactly the given shape.

    Axes with "..." are any number of them, but one at least.

    Raises:
        ValueError: they are something else.
    """
    array = np.asarray(values, np.float64)
    wrong_axes = array.ndim < len(axes.split()) - 1 if "..." in axes else array.ndim != len(axes.split())
    if wrong_axes or array.ndim == 0 or array.size == 0 or (shape is not None and array.shape != shape):
        raise ValueError(f"{name} has shape {array.shape}; it must be {shape or axes}")
    return array


def output_size(
    name: str, window: tuple[int, int], images: Sequence[int], strides: tuple[int, int], padding: Padding
) -> tuple[int, int]:
    """Return how many windows fit below and beside one another into padded images.

    The first window lies in the top left corner of the padded image, each next one a stride further, the last
    one wholly inside: ``(extent + padding before + padding after - window) // stride + 1`` of them.

    Args:
        name: what the caller calls the window, for the error.
        window: (height, width).
        images: their shape, (N, H, W, C).
        strides: (vertical, horizontal).
        padding: ((top, bottom), (left, right)), pixels added at each side.

    Raises:
        ValueError: a window or stride is not positive, a padding negative, or the window exceeds the padded image.
    """
    if len(window) != 2 or min(window) < 1:
        raise ValueError(f"{name} has a window of {window}; it must be two positive integers (height, width)")
    if len(strides) != 2 or min(strides) < 1:
        raise ValueError(f"strides is {strides}; it must be two positive integers (vertical, horizontal)")
    if [len(sides) for sides in padding] != [2, 2] or min(min(sides) for sides in padding) < 0:
        raise ValueError(f"padding is {padding}; it must be ((top, bottom), (left, right)), integers from 0 on")
    height, width = images[1] + sum(padding[0]), images[2] + sum(padding[1])
    if window[0] > height or window[1] > width:
        raise ValueError(f"{name} has a window of {window}; it must fit the padded images, {(height, width)}")
    return (height - window[0]) // strides[0] + 1, (width - window[1]) // strides[1] + 1
