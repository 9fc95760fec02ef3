"""Pooling, forward and backward. Maxima are comparisons and copies, so that they are exact.

A window's element k, counted row by row, is at row ``i * down - top + k // width``; where that is outside of the
image it is padding, which never wins and counts for no mean. Samples are independent of each other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from fastcnn.backends import checks
from fastcnn.backends.numba.jit import jit_inline, parallel_jit
from fastcnn.backends.numba.packing import FloatArray, float32, plain

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]


def maxpool2d_forward(
    x: NDArray[Any],
    pool_size: Pair,
    ties: str,
    strides: Pair | None = None,
    padding: Padding = ((0, 0), (0, 0)),
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return the maximum of each window, and which of its elements receive the gradient.

    Args:
        x: images (N, H, W, C).
        pool_size: the window's height and width.
        ties: where several elements of a window are the maximum, ``"first"`` (in row-major order) or
            ``"all"`` of them.
        strides: pixels from one window to the next, (down, right); None for `pool_size`. Rows and columns that
            do not fill a window are dropped.
        padding: rows and columns that are added, ((top, bottom), (left, right)); they never win.

    Returns:
        The maxima (N, OH, OW, C), float32 (NaN where a window has one), and the winners (N, OH, OW, height *
        width, C), bool, with ``OH = (H + top + bottom - height) // down + 1`` and OW likewise.

    Raises:
        ArgumentError: an argument is of a wrong shape or kind, the window is larger than the padded image, or
            `ties` is unknown.
    """
    checks.maxpool2d(x, pool_size, ties, strides, padding)
    y = np.empty(_output_shape(x.shape, pool_size, strides, padding), np.float32)
    winners = np.empty((*y.shape[:3], pool_size[0] * pool_size[1], x.shape[3]), np.bool_)
    _max_forward(float32(x), _grid(pool_size, strides, padding), ties == "first", y, winners)
    return y, winners


def maxpool2d_backward(
    grad_y: NDArray[Any],
    winners: NDArray[np.bool_],
    input_shape: tuple[int, int, int, int],
    pool_size: Pair,
    strides: Pair | None = None,
    padding: Padding = ((0, 0), (0, 0)),
) -> FloatArray:
    """Return the gradient for the input: each winner has its windows' whole gradients, all others zero.

    Args:
        grad_y: gradient for the maxima (N, OH, OW, C).
        winners: as `maxpool2d_forward` returned them.
        input_shape: (N, H, W, C).
        pool_size: the window's height and width.
        strides: as in the forward pass.
        padding: as in the forward pass.

    Raises:
        ArgumentError: `grad_y` or `winners` is not what `maxpool2d_forward` returns for such an input.
    """
    checks.maxpool2d_backward(grad_y, winners, input_shape, pool_size, strides, padding)
    grad_x = np.empty(input_shape, np.float32)
    _max_backward(float32(grad_y), plain(winners, np.bool_), _grid(pool_size, strides, padding), grad_x)
    return grad_x


def avgpool2d_forward(
    x: NDArray[Any],
    pool_size: Pair,
    strides: Pair | None = None,
    padding: Padding = ((0, 0), (0, 0)),
) -> FloatArray:
    """Return the mean of each window, over those of its pixels that are the image's own.

    Args:
        x: images (N, H, W, C).
        pool_size: the window's height and width.
        strides: pixels from one window to the next, (down, right); None for `pool_size`. Rows and columns that
            do not fill a window are dropped.
        padding: rows and columns that are added, ((top, bottom), (left, right)); they count for no mean.

    Returns:
        The means (N, OH, OW, C), float32, with ``OH = (H + top + bottom - height) // down + 1`` and OW likewise.

    Raises:
        ArgumentError: an argument is of a wrong shape or kind, or the window is larger than the padded image.
    """
    checks.avgpool2d(x, pool_size, strides, padding)
    y = np.empty(_output_shape(x.shape, pool_size, strides, padding), np.float32)
    _mean_forward(float32(x), _grid(pool_size, strides, padding), y)
    return y


def avgpool2d_backward(
    grad_y: NDArray[Any],
    input_shape: tuple[int, int, int, int],
    pool_size: Pair,
    strides: Pair | None = None,
    padding: Padding = ((0, 0), (0, 0)),
) -> FloatArray:
    """Return the gradient for the input: each pixel of a window has an equal share of the window's gradient.

    Args:
        grad_y: gradient for the means (N, OH, OW, C).
        input_shape: (N, H, W, C).
        pool_size: the window's height and width.
        strides: as in the forward pass.
        padding: as in the forward pass.

    Raises:
        ArgumentError: `grad_y` is not what `avgpool2d_forward` returns for such an input.
    """
    checks.avgpool2d_backward(grad_y, input_shape, pool_size, strides, padding)
    grad_x = np.empty(input_shape, np.float32)
    _mean_backward(float32(grad_y), _grid(pool_size, strides, padding), grad_x)
    return grad_x


def _output_shape(
    shape: tuple[int, ...], pool_size: Pair, strides: Pair | None, padding: Padding
) -> tuple[int, int, int, int]:
    return shape[0], *checks.output_size(shape, pool_size, strides or pool_size, padding), shape[3]


def _grid(pool_size: Pair, strides: Pair | None, padding: Padding) -> tuple[int, ...]:
    """Return what the kernels know of the windows: height, width, down, right, top, left."""
    down, right = strides or pool_size
    return int(pool_size[0]), int(pool_size[1]), int(down), int(right), int(padding[0][0]), int(padding[1][0])


@jit_inline
def _pixel(grid, i, j, k, height, width):
    """The row and the column of element k of window (i, j), and whether the image has them."""
    _, pool_width, down, right, top, left = grid
    row, column = i * down - top + k // pool_width, j * right - left + k % pool_width
    return row, column, (row >= 0) & (row < height) & (column >= 0) & (column < width)


@jit_inline
def _own_pixels(grid, i, j, height, width):
    """How many elements of window (i, j) are pixels of the image."""
    pool_height, pool_width, down, right, top, left = grid
    row, column = i * down - top, j * right - left
    rows = min(row + pool_height, height) - max(row, 0)
    return np.float32(rows * (min(column + pool_width, width) - max(column, 0)))


@parallel_jit
def _max_forward(x, grid, first_only, y, winners):
    samples, out_height, out_width, channels = y.shape
    height, width = x.shape[1:3]
    for n in prange(samples):
        taken = np.empty(channels, np.bool_)
        for i in range(out_height):
            for j in range(out_width):
                for c in range(channels):
                    y[n, i, j, c] = -np.inf
                    taken[c] = False
                for k in range(grid[0] * grid[1]):
                    row, column, own = _pixel(grid, i, j, k, height, width)
                    if own:
                        for c in range(channels):
                            value, best = x[n, row, column, c], y[n, i, j, c]
                            y[n, i, j, c] = value if (value > best) | (value != value) else best  # NaN beats all
                for k in range(grid[0] * grid[1]):
                    row, column, own = _pixel(grid, i, j, k, height, width)
                    if own:
                        for c in range(channels):
                            value = x[n, row, column, c]
                            wins = ((value == y[n, i, j, c]) | (value != value)) & (not taken[c])
                            winners[n, i, j, k, c] = wins
                            taken[c] |= wins & first_only
                    else:
                        for c in range(channels):
                            winners[n, i, j, k, c] = False


@parallel_jit
def _max_backward(grad_y, winners, grid, grad_x):
    samples, out_height, out_width, channels = grad_y.shape
    height, width = grad_x.shape[1:3]
    for n in prange(samples):
        grad_x[n] = np.float32(0)
        for i in range(out_height):
            for j in range(out_width):
                for k in range(grid[0] * grid[1]):
                    row, column, own = _pixel(grid, i, j, k, height, width)
                    if own:
                        for c in range(channels):
                            grad = grad_y[n, i, j, c]
                            grad_x[n, row, column, c] += grad if winners[n, i, j, k, c] else np.float32(0)


@parallel_jit
def _mean_forward(x, grid, y):
    samples, out_height, out_width, channels = y.shape
    height, width = x.shape[1:3]
    for n in prange(samples):
        for i in range(out_height):
            for j in range(out_width):
                for c in range(channels):
                    y[n, i, j, c] = 0
                for k in range(grid[0] * grid[1]):
                    row, column, own = _pixel(grid, i, j, k, height, width)
                    if own:
                        for c in range(channels):
                            y[n, i, j, c] += x[n, row, column, c]
                pixels = _own_pixels(grid, i, j, height, width)
                for c in range(channels):
                    y[n, i, j, c] /= pixels


@parallel_jit
def _mean_backward(grad_y, grid, grad_x):
    samples, out_height, out_width, channels = grad_y.shape
    height, width = grad_x.shape[1:3]
    for n in prange(samples):
        grad_x[n] = np.float32(0)
        for i in range(out_height):
            for j in range(out_width):
                pixels = _own_pixels(grid, i, j, height, width)
                for k in range(grid[0] * grid[1]):
                    row, column, own = _pixel(grid, i, j, k, height, width)
                    if own:
                        for c in range(channels):
                            grad_x[n, row, column, c] += grad_y[n, i, j, c] / pixels
