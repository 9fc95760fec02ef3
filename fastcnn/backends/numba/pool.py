"""Max-pooling, forward and backward: comparisons and copies, so that results are exact."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from fastcnn.backends import checks
from fastcnn.backends.numba.jit import parallel_jit
from fastcnn.backends.numba.packing import FloatArray, float32, plain


def maxpool2d_forward(x: NDArray[Any], pool_size: tuple[int, int], ties: str) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return the maximum of each window, and which of its elements receive the gradient.

    Args:
        x: images (N, H, W, C).
        pool_size: the window's height and width, and the distance from one window to the next. Rows and
            columns that do not fill a window are dropped.
        ties: where several elements of a window are the maximum, ``"first"`` (in row-major order) or
            ``"all"`` of them.

    Returns:
        The maxima (N, H // height, W // width, C), float32 (NaN where a window has one), and the winners
        (N, H // height, W // width, height * width, C), bool.

    Raises:
        ArgumentError: a shape or a dtype is wrong, the window is larger than the image, or `ties` is unknown.
    """
    checks.maxpool2d(x, pool_size, ties)
    samples, height, width, channels = x.shape
    y = np.empty((samples, height // pool_size[0], width // pool_size[1], channels), np.float32)
    winners = np.empty((*y.shape[:3], pool_size[0] * pool_size[1], channels), np.bool_)
    _forward(float32(x), int(pool_size[0]), int(pool_size[1]), ties == "first", y, winners)
    return y, winners


def maxpool2d_backward(
    grad_y: NDArray[Any],
    winners: NDArray[np.bool_],
    input_shape: tuple[int, int, int, int],
    pool_size: tuple[int, int],
) -> FloatArray:
    """Return the gradient for the input: each winner has its window's whole gradient, all others zero.

    Args:
        grad_y: gradient for the maxima (N, H // height, W // width, C).
        winners: as `maxpool2d_forward` returned them.
        input_shape: (N, H, W, C).
        pool_size: the window's height and width.

    Raises:
        ArgumentError: `grad_y` or `winners` is not what `maxpool2d_forward` returns for such an input.
    """
    checks.maxpool2d_backward(grad_y, winners, input_shape, pool_size)
    grad_x = np.zeros(input_shape, np.float32)
    _backward(float32(grad_y), plain(winners, np.bool_), int(pool_size[0]), int(pool_size[1]), grad_x)
    return grad_x


@parallel_jit
def _forward(x, pool_height, pool_width, first_only, y, winners):
    samples, out_height, out_width, channels = y.shape
    for n in prange(samples):
        taken = np.empty(channels, np.bool_)
        for i in range(out_height):
            for j in range(out_width):
                for c in range(channels):
                    y[n, i, j, c] = x[n, i * pool_height, j * pool_width, c]
                    taken[c] = False
                for k in range(1, pool_height * pool_width):
                    row, column = i * pool_height + k // pool_width, j * pool_width + k % pool_width
                    for c in range(channels):
                        value, best = x[n, row, column, c], y[n, i, j, c]
                        y[n, i, j, c] = value if (value > best) | (value != value) else best  # NaN beats all
                for k in range(pool_height * pool_width):
                    row, column = i * pool_height + k // pool_width, j * pool_width + k % pool_width
                    for c in range(channels):
                        value = x[n, row, column, c]
                        wins = ((value == y[n, i, j, c]) | (value != value)) & (not taken[c])
                        winners[n, i, j, k, c] = wins
                        taken[c] |= wins & first_only


@parallel_jit
def _backward(grad_y, winners, pool_height, pool_width, grad_x):
    samples, out_height, out_width, channels = grad_y.shape
    for n in prange(samples):
        for i in range(out_height):
            for j in range(out_width):
                for k in range(pool_height * pool_width):
                    row, column = i * pool_height + k // pool_width, j * pool_width + k % pool_width
                    for c in range(channels):
                        grad = grad_y[n, i, j, c]
                        grad_x[n, row, column, c] = grad if winners[n, i, j, k, c] else np.float32(0)
