"""The rounding bounds of Winograd's 3x3 convolutions, where the numba backend uses them.

Winograd's F(2x2, 3x3) multiplies sums of a tile's pixels with sums of a filter's taps, and adds the products up.
Written out, each output is still a sum of products pixel * tap, many of which cancel exactly; each of them meets so
many roundings, and the theorem of `tolerance.py` holds with the sum of all their absolute values. That is the same
algorithm with the absolute values of its arguments and of its coefficients. Roundings of a term, at most:

* one in each of the two additions that transform a pixel or a gradient, two in each of the two that transform a tap
  (halves are exact);
* its product, and the additions over the channels, or over the tiles for a filter's gradient;
* two in each of the two steps of the last transform, and one where the bias is added.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fastcnn.backends.numba import conv

#: The absolute values of the coefficients that transform pixels, taps and products.
PIXELS = np.array([[1, 0, 1, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 1, 0, 1]])
TAPS = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5], [0, 0, 1]])
PRODUCTS = np.array([[1, 1, 1, 0], [0, 1, 1, 1]])

Padding = Sequence[Sequence[int]]


def roundings(terms: int) -> int:
    """How many roundings a term meets, at most, in a sum over so many channels or tiles."""
    return terms + 11


def tiles_of(x: np.ndarray, first: tuple[int, int], size: tuple[int, int], side: int) -> np.ndarray:
    """Tiles of side x side pixels, two pixels apart, from pixel `first` on, for outputs of `size`; zeros around x."""
    margins = [(max(0, -start), 2 * extent + 4) for start, extent in zip(first, size, strict=True)]
    padded = np.pad(np.abs(x.astype(np.float64)), ((0, 0), *margins, (0, 0)))
    top, left = (start + before for start, (before, _) in zip(first, margins, strict=True))
    rows, columns = (-(-extent // 2) for extent in size)
    tiles = sliding_window_view(padded, (side, side), axis=(1, 2))[:, top::2, left::2]
    return tiles[:, :rows, :columns]


def outputs(x: np.ndarray, filters: np.ndarray, padding: Padding, size: tuple[int, int]) -> np.ndarray:
    """Winograd's convolution of absolute values, (N, *size, F)."""
    tiles = tiles_of(x, (-padding[0][0], -padding[1][0]), size, 4)
    images = np.einsum("ik,nhwckl,jl->nhwcij", PIXELS, tiles, PIXELS, optimize=True)
    weights = np.einsum("ik,klcf,jl->ijcf", TAPS, np.abs(filters.astype(np.float64)), TAPS)
    found = np.einsum("pi,nhwcij,ijcf,qj->nhpwqf", PRODUCTS, images, weights, PRODUCTS, optimize=True)
    n, rows, _, columns, _, count = found.shape
    return found.reshape(n, 2 * rows, 2 * columns, count)[:, : size[0], : size[1]]


def filter_gradients(grad_y: np.ndarray, x: np.ndarray, padding: Padding) -> np.ndarray:
    """Winograd's gradients of the filters for absolute values, (3, 3, C, F)."""
    size = grad_y.shape[1:3]
    tiles = tiles_of(x, (-padding[0][0], -padding[1][0]), size, 4)
    images = np.einsum("ik,nhwckl,jl->nhwcij", PIXELS, tiles, PIXELS, optimize=True)
    grads = np.einsum("pi,nhwfpq,qj->nhwfij", PRODUCTS, tiles_of(grad_y, (0, 0), size, 2), PRODUCTS, optimize=True)
    sums = np.einsum("nhwcij,nhwfij->ijcf", images, grads, optimize=True)
    return np.einsum("ik,ijcf,jl->klcf", TAPS, sums, TAPS)


def forward(x: np.ndarray, filters: np.ndarray, strides: Any, padding: Padding, size: Any) -> np.ndarray | None:
    """The magnitudes of a forward pass, or None where it is a plain sum of products."""
    if not conv.uses_winograd(filters.shape, (len(x), *size, filters.shape[3]), strides):
        return None
    return outputs(x, filters, padding, tuple(size))


def backward(
    grad_y: np.ndarray, x: np.ndarray, filters: np.ndarray, strides: Any, padding: Padding
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The magnitudes of the gradients for images and filters, or None where they are plain sums of products."""
    grad_x = None
    turned = np.abs(filters[::-1, ::-1].swapaxes(2, 3))
    is_turned = conv.is_turned(filters.shape, x.shape, grad_y.shape, strides, padding)
    if is_turned and conv.uses_winograd(turned.shape, x.shape, strides):
        around = [[2 - before, 2 - after] for before, after in padding]
        grad_x = outputs(grad_y, turned, around, x.shape[1:3])
    uses = conv.uses_winograd(filters.shape, grad_y.shape, strides)
    return grad_x, filter_gradients(grad_y, x, padding) if uses else None
