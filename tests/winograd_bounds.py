"""The rounding bounds of Winograd's 3x3 convolutions, where the numba backend uses them.

Winograd's convolution multiplies sums of a tile's pixels with sums of a filter's taps, and adds the products up.
Written out, each output is still a sum of products pixel * tap, many of which cancel exactly; each of them meets so
many roundings, and the theorem of `tolerance.py` holds with the sum of all their absolute values. That is the same
algorithm with the absolute values of its arguments and of its coefficients. Roundings of a term, at most, in each of
the two directions (multiplied with a power of two nothing is rounded, and a processor may lack `fma`):

* F(2x2, 3x3) and F(3x3, 2x2), of `winograd` and `winograd_gradient`: one in the addition that transforms a pixel or a
  gradient, two in those of a tap, two in those of a product;
* F(4x4, 3x3), of `winograd_pooled`: four where a pixel is transformed (a difference, its product with 3/2, two
  additions), four where a tap is (two additions, its product with a factor that is itself rounded), four where a
  product is;

and its product and the additions over the channels, or over the tiles for a filter's gradient: as many as there are,
however they are grouped; and one where the bias is added.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fastcnn.backends.numba import conv, conv_pool


class Transforms(NamedTuple):
    """The absolute values of the coefficients that transform pixels, taps and products, and a term's roundings."""

    pixels: np.ndarray
    taps: np.ndarray
    products: np.ndarray
    roundings: int


SMALL = Transforms(
    np.array([[1, 0, 1, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 1, 0, 1]]),
    np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5], [0, 0, 1]]),
    np.array([[1, 1, 1, 0], [0, 1, 1, 1]]),
    2 * (1 + 2 + 2) + 1,
)

LARGE = Transforms(
    np.array(
        [
            [1, 1.5, 2, 1.5, 1, 0],
            [0, 1, 0.5, 2.5, 1, 0],
            [0, 1, 2.5, 0.5, 1, 0],
            [0, 2, 1, 2, 1, 0],
            [0, 0.5, 1, 0.5, 1, 0],
            [0, 1, 1.5, 2, 1.5, 1],
        ]
    ),
    np.array([[15, 0, 0], [5, 5, 5], [5, 5, 5], [16, 8, 4], [1, 2, 4], [0, 0, 15]]) / 15,
    np.array([[1, 1, 1, 1, 1, 0], [0, 1, 1, 1 / 2, 2, 0], [0, 1, 1, 1 / 4, 4, 0], [0, 1, 1, 1 / 8, 8, 1]]),
    2 * (4 + 4 + 4) + 1,
)

Padding = Sequence[Sequence[int]]


def roundings(terms: int, transforms: Transforms = SMALL) -> int:
    """How many roundings a term meets, at most, in a sum over so many channels or tiles."""
    return terms + transforms.roundings


def tiles_of(x: np.ndarray, first: tuple[int, int], size: tuple[int, int], side: int, step: int = 2) -> np.ndarray:
    """Tiles of side x side pixels, `step` apart, from pixel `first` on, for outputs of `size`; zeros around x."""
    margins = [(max(0, -start), 2 * extent + 8) for start, extent in zip(first, size, strict=True)]
    padded = np.pad(np.abs(x.astype(np.float64)), ((0, 0), *margins, (0, 0)))
    top, left = (start + before for start, (before, _) in zip(first, margins, strict=True))
    rows, columns = (-(-extent // step) for extent in size)
    tiles = sliding_window_view(padded, (side, side), axis=(1, 2))[:, top::step, left::step]
    return tiles[:, :rows, :columns]


def outputs(
    x: np.ndarray, filters: np.ndarray, padding: Padding, size: tuple[int, int], transforms: Transforms = SMALL
) -> np.ndarray:
    """Winograd's convolution of absolute values, (N, *size, F)."""
    pixels, taps, products, _ = transforms
    tiles = tiles_of(x, (-padding[0][0], -padding[1][0]), size, len(pixels), len(products))
    images = np.einsum("ik,nhwckl,jl->nhwcij", pixels, tiles, pixels, optimize=True)
    weights = np.einsum("ik,klcf,jl->ijcf", taps, np.abs(filters.astype(np.float64)), taps)
    found = np.einsum("pi,nhwcij,ijcf,qj->nhpwqf", products, images, weights, products, optimize=True)
    n, rows, side, columns, _, count = found.shape
    return found.reshape(n, side * rows, side * columns, count)[:, : size[0], : size[1]]


def filter_gradients(grad_y: np.ndarray, x: np.ndarray, padding: Padding) -> np.ndarray:
    """Winograd's gradients of the filters for absolute values, (3, 3, C, F)."""
    size = grad_y.shape[1:3]
    tiles = tiles_of(x, (-padding[0][0], -padding[1][0]), size, 4)
    images = np.einsum("ik,nhwckl,jl->nhwcij", SMALL.pixels, tiles, SMALL.pixels, optimize=True)
    parts = tiles_of(grad_y, (0, 0), size, 2)
    grads = np.einsum("pi,nhwfpq,qj->nhwfij", SMALL.products, parts, SMALL.products, optimize=True)
    sums = np.einsum("nhwcij,nhwfij->ijcf", images, grads, optimize=True)
    return np.einsum("ik,ijcf,jl->klcf", SMALL.taps, sums, SMALL.taps)


def forward(x: np.ndarray, filters: np.ndarray, strides: Any, padding: Padding, size: Any) -> np.ndarray | None:
    """The magnitudes of a forward pass, or None where it is a plain sum of products."""
    if not conv.uses_winograd(filters.shape, (len(x), *size, filters.shape[3]), strides):
        return None
    return outputs(x, filters, padding, tuple(size))


def pooled(x: np.ndarray, filters: np.ndarray, strides: Any, padding: Padding, size: Any) -> np.ndarray | None:
    """As `forward`, of a convolution before its maxima are taken; zeros where no window of 2x2 has an output."""
    rows, columns = size[0] // 2, size[1] // 2
    if tuple(strides) != (1, 1) or not conv_pool.uses_winograd(
        filters.shape, (len(x), rows, columns, filters.shape[3])
    ):
        return None
    found = outputs(x, filters, padding, (2 * rows, 2 * columns), LARGE)
    return np.pad(found, ((0, 0), (0, size[0] % 2), (0, size[1] % 2), (0, 0)))


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
