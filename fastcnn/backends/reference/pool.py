"""Max-pooling and average-pooling in loops. Windows may overlap, leave gaps, and reach into the padding."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.backends.reference.arrays import BoolArray, FloatArray, Padding, array, output_size


def maxpool2d_forward(
    x: ArrayLike,
    pool_size: tuple[int, int],
    ties: str,
    strides: tuple[int, int] | None = None,
    padding: Padding = ((0, 0), (0, 0)),
) -> tuple[FloatArray, BoolArray]:
    """Keep the largest element of each window of PH x PW pixels, for each channel by itself.

    Rows and columns left over at the end belong to no window. Pixels of the padding never win. A NaN counts
    as larger than any number, so that it is seen and not dropped.

    Args:
        x: images (N, H, W, C).
        pool_size: (PH, PW), not larger than the padded images.
        ties: which elements win where several are the largest: ``"first"``, the first one row by row (Keras,
            PyTorch), or ``"all"`` (the tutorial's loops).
        strides: (SY, SX), the steps from one window to the next; None: (PH, PW), windows side by side.
        padding: ((top, bottom), (left, right)), how many pixels are added around the images, fewer than the
            window has, so that each window holds a pixel of the image.

    Returns:
        (y, winners): y (N, OH, OW, C), where OH is (top+H+bottom-PH)//SY+1 and OW is
        (left+W+right-PW)//SX+1, and winners, bool (N, OH, OW, PH*PW, C), True for each element of a window,
        counted row by row, that receives the window's gradient.

    Raises:
        ValueError: the shapes do not fit each other, or ties is neither.
    """
    x = array("x", x, "N H W C")
    (N, _, _, C), (PH, PW) = x.shape, pool_size
    strides = strides or pool_size
    OH, OW = _output_size(pool_size, x.shape, strides, padding)
    if ties not in ("first", "all"):
        raise ValueError(f"ties is {ties!r}; it must be 'first' or 'all'")
    pixels = x.tolist()
    y = np.empty((N, OH, OW, C))
    winners = np.zeros((N, OH, OW, PH * PW, C), np.bool_)
    for n in range(N):
        for i in range(OH):
            for j in range(OW):
                window = list(_window(i, j, x.shape, pool_size, strides, padding))
                for c in range(C):
                    largest = -math.inf
                    for _, row, column in window:
                        value = pixels[n][row][column][c]
                        if value > largest or math.isnan(value):
                            largest = value
                    y[n, i, j, c] = largest
                    for k, row, column in window:
                        value = pixels[n][row][column][c]
                        if value == largest or math.isnan(value):
                            winners[n, i, j, k, c] = True
                            if ties == "first":
                                break
    return y, winners


def maxpool2d_backward(
    grad_y: ArrayLike,
    winners: ArrayLike,
    input_shape: tuple[int, int, int, int],
    pool_size: tuple[int, int],
    strides: tuple[int, int] | None = None,
    padding: Padding = ((0, 0), (0, 0)),
) -> FloatArray:
    """Give each winner the whole gradient of its window, and every other element zero.

    With ties ``"all"`` each of several winners gets the whole gradient, not a share of it, as in the
    tutorial's loops. An element that wins several overlapping windows gets the sum of their gradients.

    Args:
        grad_y: (N, OH, OW, C), the shape of the maxima.
        winners: what `maxpool2d_forward` returned, bool (N, OH, OW, PH*PW, C).
        input_shape: (N, H, W, C) of the forward pass.
        pool_size: (PH, PW) of the forward pass.
        strides: (SY, SX) of the forward pass.
        padding: ((top, bottom), (left, right)) of the forward pass.

    Returns:
        grad_x (N, H, W, C).

    Raises:
        ValueError: the shapes do not fit each other.
    """
    (N, _, _, C), (PH, PW) = input_shape, pool_size
    strides = strides or pool_size
    OH, OW = _output_size(pool_size, input_shape, strides, padding)
    grads = array("grad_y", grad_y, "N OH OW C", (N, OH, OW, C)).tolist()
    won = array("winners", winners, "N OH OW PH*PW C", (N, OH, OW, PH * PW, C)).tolist()
    grad_x = np.zeros(input_shape)
    for n in range(N):
        for i in range(OH):
            for j in range(OW):
                for k, row, column in _window(i, j, input_shape, pool_size, strides, padding):
                    for c in range(C):
                        if won[n][i][j][k][c]:
                            grad_x[n, row, column, c] += grads[n][i][j][c]
    return grad_x


def avgpool2d_forward(
    x: ArrayLike,
    pool_size: tuple[int, int],
    strides: tuple[int, int] | None = None,
    padding: Padding = ((0, 0), (0, 0)),
) -> FloatArray:
    """Average each window of PH x PW pixels, for each channel by itself.

    The average is over the window's pixels that belong to the image: the padding counts neither in the sum
    nor in the number of pixels (as Keras has it with ``padding="same"``).

    Args:
        x: images (N, H, W, C).
        pool_size: (PH, PW), not larger than the padded images.
        strides: (SY, SX), the steps from one window to the next; None: (PH, PW), windows side by side.
        padding: ((top, bottom), (left, right)), fewer pixels than the window has.

    Returns:
        (N, OH, OW, C), where OH is (top+H+bottom-PH)//SY+1 and OW is (left+W+right-PW)//SX+1.

    Raises:
        ValueError: the shapes do not fit each other.
    """
    x = array("x", x, "N H W C")
    N, _, _, C = x.shape
    strides = strides or pool_size
    OH, OW = _output_size(pool_size, x.shape, strides, padding)
    pixels = x.tolist()
    y = np.empty((N, OH, OW, C))
    for n in range(N):
        for i in range(OH):
            for j in range(OW):
                window = list(_window(i, j, x.shape, pool_size, strides, padding))
                for c in range(C):
                    total = 0.0
                    for _, row, column in window:
                        total += pixels[n][row][column][c]
                    y[n, i, j, c] = total / len(window)
    return y


def avgpool2d_backward(
    grad_y: ArrayLike,
    input_shape: tuple[int, int, int, int],
    pool_size: tuple[int, int],
    strides: tuple[int, int] | None = None,
    padding: Padding = ((0, 0), (0, 0)),
) -> FloatArray:
    """Give each pixel of a window an equal share of the window's gradient; shares of several windows add up.

    Args:
        grad_y: (N, OH, OW, C), the shape of the averages.
        input_shape: (N, H, W, C) of the forward pass.
        pool_size: (PH, PW) of the forward pass.
        strides: (SY, SX) of the forward pass.
        padding: ((top, bottom), (left, right)) of the forward pass.

    Returns:
        grad_x (N, H, W, C).

    Raises:
        ValueError: the shapes do not fit each other.
    """
    N, _, _, C = input_shape
    strides = strides or pool_size
    OH, OW = _output_size(pool_size, input_shape, strides, padding)
    grads = array("grad_y", grad_y, "N OH OW C", (N, OH, OW, C)).tolist()
    grad_x = np.zeros(input_shape)
    for n in range(N):
        for i in range(OH):
            for j in range(OW):
                window = list(_window(i, j, input_shape, pool_size, strides, padding))
                for _, row, column in window:
                    for c in range(C):
                        grad_x[n, row, column, c] += grads[n][i][j][c] / len(window)
    return grad_x


def _window(
    i: int,
    j: int,
    images: Sequence[int],
    pool_size: tuple[int, int],
    strides: tuple[int, int],
    padding: Padding,
) -> Iterator[tuple[int, int, int]]:
    """Yield (number in the window, row, column) for each pixel of the image in window i, j."""
    for a in range(pool_size[0]):
        for b in range(pool_size[1]):
            row, column = i * strides[0] + a - padding[0][0], j * strides[1] + b - padding[1][0]
            if 0 <= row < images[1] and 0 <= column < images[2]:
                yield a * pool_size[1] + b, row, column


def _output_size(
    pool_size: tuple[int, int], images: Sequence[int], strides: tuple[int, int], padding: Padding
) -> tuple[int, int]:
    size = output_size("pool_size", pool_size, images, strides, padding)
    if max(padding[0]) >= pool_size[0] or max(padding[1]) >= pool_size[1]:
        raise ValueError(f"padding is {padding}; it must be smaller than the window, {pool_size}")
    return size
