"""The rounding bounds of Winograd's 3x3 convolutions, where the numba backend uses them.

Winograd's F(2x2, 3x3) multiplies sums of a tile's pixels with sums of a filter's taps, and adds the products up.
Written out, each output is still a sum of products pixel * tap, many of which cancel exactly; each of them meets so
many roundings, and the theorem of `tolerance.py` holds with the sum of all their absolute values. That is the same
algorithm with the absolute values of its arguments and of its coefficients. Roundings of a term, at most:

* one in each of the two additions that transform a pixel or a gradient, two in each of the two that transform a tap
  (halves are exact);
* its product, and the additions over the channels, or over the tiles for a filter's gradient;
* two in each of the two steps of the last transform, and one where the bias is added.

F(4x4, 3x3), where maxima are taken, cancels more, and that bound would tell little. `pooled` follows the errors from
one step to the next: each is a sum of products whose factors are off already. Tiles at an edge that have two outputs
in a direction are transformed as F(2, 3) in it, at four of the six points.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fastcnn.backends.numba.conv import operations as conv

#: The absolute values of the coefficients that transform pixels, taps and products: F(2x2, 3x3).
PIXELS = np.array([[1, 0, 1, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 1, 0, 1]])
TAPS = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5], [0, 0, 1]])
PRODUCTS = np.array([[1, 1, 1, 0], [0, 1, 1, 1]])

#: The coefficients themselves: F(4x4, 3x3). Nothing is added in these sums that is subtracted again, so that their
#: absolute values are those of the additions.
LARGE_PIXELS = np.array(
    [
        [1, -1.5, -2, 1.5, 1, 0],
        [0, -1, 0.5, 2.5, 1, 0],
        [0, 1, -2.5, 0.5, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 0.5, -1, -0.5, 1, 0],
        [0, 1, -1.5, -2, 1.5, 1],
    ]
)
LARGE_TAPS = np.array([[15, 0, 0], [5, 5, 5], [-5, 5, -5], [-16, -8, -4], [1, -2, 4], [0, 0, 15]]) / 15
LARGE_PRODUCTS = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 1 / 2, -2, 0], [0, 1, 1, 1 / 4, 4, 0], [0, 1, -1, 1 / 8, -8, 1]]
)

#: For two outputs and for four in a direction: what transforms pixels, taps and products.
TRANSFORMS = {
    2: (
        np.array([[1, 0, -1, 0], [0, 1.5, 1.5, 0], [0, 1.5, -1.5, 0], [0, -1, 0, 1]]),
        LARGE_TAPS[[0, 1, 2, 5]],
        np.array([[1, 1, 1, 0], [0, 1, -1, 1]]),
    ),
    4: (LARGE_PIXELS, LARGE_TAPS, LARGE_PRODUCTS),
}

Padding = Sequence[Sequence[int]]
Pair = tuple[int, int]


def gamma(terms: int, u: float) -> float:
    """Return Higham's gamma(n): the relative error that n roundings can add up to."""
    return terms * u / (1 - terms * u)


def roundings(terms: int) -> int:
    """How many roundings a term meets, at most, in a sum over so many channels or tiles."""
    return terms + 11


def tiles_of(x: np.ndarray, first: Pair, size: Pair, sides: Pair, step: Pair = (2, 2)) -> np.ndarray:
    """Tiles of so many pixels, `step` apart, from pixel `first` on, for outputs of `size`; zeros around x."""
    margins = [(max(0, -start), 2 * extent + 8) for start, extent in zip(first, size, strict=True)]
    padded = np.pad(x.astype(np.float64), ((0, 0), *margins, (0, 0)))
    top, left = (start + before for start, (before, _) in zip(first, margins, strict=True))
    rows, columns = (-(-extent // by) for extent, by in zip(size, step, strict=True))
    tiles = sliding_window_view(padded, sides, axis=(1, 2))[:, top :: step[0], left :: step[1]]
    return tiles[:, :rows, :columns]


def outputs(x: np.ndarray, filters: np.ndarray, padding: Padding, size: tuple[int, int]) -> np.ndarray:
    """Winograd's convolution of absolute values, (N, *size, F)."""
    tiles = tiles_of(np.abs(x), (-padding[0][0], -padding[1][0]), size, (4, 4))
    images = np.einsum("ik,nhwckl,jl->nhwcij", PIXELS, tiles, PIXELS, optimize=True)
    weights = np.einsum("ik,klcf,jl->ijcf", TAPS, np.abs(filters.astype(np.float64)), TAPS)
    return _untiled(np.einsum("nhwcij,ijcf->nhwijf", images, weights, optimize=True), PRODUCTS, PRODUCTS, size)


def _untiled(products: np.ndarray, down: np.ndarray, right: np.ndarray, size: Pair) -> np.ndarray:
    """The outputs (N, *size, F) of the sums of products of each tile's positions, by each direction's coefficients."""
    found = np.einsum("pi,nhwijf,qj->nhpwqf", down, products, right, optimize=True)
    n, rows, high, across, wide, count = found.shape
    return found.reshape(n, high * rows, wide * across, count)[:, : size[0], : size[1]]


def pooled(
    x: np.ndarray, radius: np.ndarray, filters: np.ndarray, bias: Any, padding: Padding, size: tuple[int, int]
) -> np.ndarray:
    """The rounding errors of F(4x4, 3x3), at most, (N, *size, F), for images that are off by `radius` at most.

    Of an odd `size` the last row or column is pooled with none, and its errors are zeros.

    Roundings in each of the two directions, where a processor lacks `fma` (powers of two don't round): four of a pixel,
    in a difference, its product with 3/2 and two additions; four of a tap, in two additions and in the product with a
    factor that is itself rounded; four of a product, in additions. In the sums over the channels, as many as there are,
    however they are grouped. The bias is one more.
    """
    found = np.zeros((len(x), *size, filters.shape[3]))
    for top, high, tall in _strips(size[0]):
        for left, wide, broad in _strips(size[1]):
            corner = (top - padding[0][0], left - padding[1][0])
            steps, sides = (tall, broad), (tall + 2, broad + 2)
            parts = (x, radius, np.abs(x) + radius)
            tiles = [tiles_of(part, corner, (high, wide), sides, steps) for part in parts]
            errors = _errors(tiles, filters, bias, (high, wide), steps)
            found[:, top : top + high, left : left + wide] = errors
    return found


def _strips(extent: int) -> list[tuple[int, int, int]]:
    """Where the strips of tiles begin that are four outputs long and two, how long they are, and how long a tile."""
    whole = extent // 4 * 4
    return [strip for strip in ((0, whole, 4), (whole, extent // 2 * 2 - whole, 2)) if strip[1]]


def _errors(tiles: list[np.ndarray], filters: np.ndarray, bias: Any, size: Pair, steps: Pair) -> np.ndarray:
    """As `pooled`, for tiles of one kind: their pixels, how far those are off, and the greatest they can be."""
    u = 2.0**-24
    by, across = (TRANSFORMS[count] for count in steps)
    sizes, sizes_across = (tuple(np.abs(part) for part in parts) for parts in (by, across))
    pixels, off, magnitudes = tiles
    images, images_off, images_error = (
        np.einsum("ik,nhwckl,jl->nhwcij", rows, part, columns, optimize=True)
        for rows, part, columns in (
            (by[0], pixels, across[0]),
            (sizes[0], off, sizes_across[0]),
            (sizes[0], gamma(8, u) * magnitudes, sizes_across[0]),
        )
    )
    weights, weights_error = (
        np.einsum("ik,klcf,jl->ijcf", rows, part, columns)
        for rows, part, columns in (
            (by[1], filters, across[1]),
            (sizes[1], gamma(8, u) * np.abs(filters), sizes_across[1]),
        )
    )

    def multiplied(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return np.einsum("nhwcij,ijcf->nhwijf", left, right, optimize=True)

    high, low = np.abs(images) + images_off, np.abs(weights)
    error = (1 + gamma(filters.shape[2], u)) * multiplied(high + images_error, low + weights_error)
    error -= multiplied(high, low)
    products = np.abs(multiplied(images, weights)) + multiplied(images_off, low) + error
    final = _untiled(products, sizes[2], sizes_across[2], size) + (0 if bias is None else np.abs(bias))
    return _untiled(error, sizes[2], sizes_across[2], size) + gamma(9, u) * final


def filter_gradients(grad_y: np.ndarray, x: np.ndarray, padding: Padding) -> np.ndarray:
    """Winograd's gradients of the filters for absolute values, (3, 3, C, F)."""
    size = grad_y.shape[1:3]
    tiles = tiles_of(np.abs(x), (-padding[0][0], -padding[1][0]), size, (4, 4))
    images = np.einsum("ik,nhwckl,jl->nhwcij", PIXELS, tiles, PIXELS, optimize=True)
    parts = tiles_of(np.abs(grad_y), (0, 0), size, (2, 2))
    grads = np.einsum("pi,nhwfpq,qj->nhwfij", PRODUCTS, parts, PRODUCTS, optimize=True)
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
    kernel = (filters.shape, grad_y.shape, strides)
    uses = conv.uses_winograd(*kernel) or conv.uses_winograd_channels(*kernel)
    return grad_x, filter_gradients(grad_y, x, padding) if uses else None
