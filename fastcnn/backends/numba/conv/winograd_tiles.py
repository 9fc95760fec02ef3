"""What Winograd's convolutions have in common: the tiles of images, and their products with the filters.

Outputs that lie side by side are one tile. Of the pixels under them and of the filters sums and differences are made,
those are multiplied, and the products are added up to the outputs: fewer multiplications than a sum over windows
takes (A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", 2016, section 4.1).

At each of the tile's positions that is a product of two matrices, (tiles, C) with (C, F). A group of tiles is
transformed, stays in the second-level cache while panels of filters, a vector wide, go by, and leaves it as outputs:
what a panel needs at one position stays in the first-level cache for all tiles of the group.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcnn.backends.numba.conv.filters import packed_filters
from fastcnn.backends.numba.jit import jit_inline, jit_part
from fastcnn.backends.numba.packing import FloatArray, Workspace, float32, padded_width
from fastcnn.backends.numba.simd import LANES, above, fma, load, select, shifted, splat, store

#: Tiles that are multiplied together, one accumulator each.
TILES = 8

#: Tiles of a group, at most: more would gain nothing.
_GROUP_TILES = 48

#: Floats of a group of transformed tiles, at most: half of a second-level cache of 1 MB.
_GROUP_FLOATS = 1 << 17

#: Floats of transformed filters, at most: those of more, 1 MB, leave the second-level cache, and every group of tiles
#: transforms them panel by panel. For 7x7x256 to 512 filters that takes 0.6 of the time on two cores.
_WEIGHTS_FLOATS = 1 << 18

#: Channels whose products are added one after the other; the sums of so many are added then. That takes a sixth
#: off the rounding errors for 32 channels, a third for 64, and a hundredth more time.
_CHAIN = 16

#: The row and column of the image at which the first window begins, negative where there are zeros around it.
Corner = tuple[int, int]

#: How many floats further on there is the next panel of filters, the next tap and the next channel.
Layout = tuple[int, int, int]


def pays(kernel: tuple[int, ...], output: tuple[int, ...], positions: int) -> bool:
    """Whether the products that are saved outweigh the transforms.

    Args:
        kernel: (kernel height, kernel width, C, F).
        output: of the convolution (N, OH, OW, F), before pooling.
        positions: of all tiles of an image.
    """
    kernel_height, kernel_width, channels, count = kernel
    samples, height, width, _ = output
    return (
        (kernel_height, kernel_width) == (3, 3)
        and min(channels, count) >= LANES
        and samples * positions >= 400  # or the transform of the filters does not pay
        and 9 * height * width >= 1.5 * positions  # few tiles that reach over the output
    )


def groups_of(total: int, floats: int) -> tuple[int, int]:
    """Return how many groups there are of `total` tiles, of so many `floats` each, and the tiles of the largest."""
    blocks = -(-total // TILES)
    groups = -(-blocks * TILES // min(_GROUP_TILES, max(TILES, _GROUP_FLOATS // floats)))
    groups = min(blocks, -(-groups // 4) * 4)  # as many for each of two or four threads
    return groups, -(-blocks // groups) * TILES


def weights_of(
    filters: NDArray[Any], turned: bool, positions: int, transform: Callable[..., None], workspace: Workspace
) -> tuple[FloatArray, Layout, bool]:
    """Return the transformed filters (panels, positions, C, LANES); or where they are too many, as they are.

    Args:
        filters: (3, 3, C, F), or where they are to be turned as `packed_filters` does it, (3, 3, F, C).
        turned: whether they are.
        positions: of a tile.
        transform: the kernel that transforms them: from what, its layout, C, the panels, to what.
        workspace: what the transformed are kept in.

    Returns:
        The filters, their layout before they were transformed, and whether they still are to be.
    """
    channels, count = filters.shape[3 if turned else 2], filters.shape[2 if turned else 3]
    panels = padded_width(count) // LANES
    size = panels * positions * channels * LANES
    if size > _WEIGHTS_FLOATS and not turned and count % LANES == 0:
        return float32(filters).reshape(-1), (LANES, channels * count, count), True
    taps, layout = packed_filters(filters, turned).reshape(-1), (9 * channels * LANES, channels * LANES, LANES)
    if size > _WEIGHTS_FLOATS:
        return taps, layout, True
    weights = workspace.array("weights", (size,), zeros=False)
    transform(taps, layout, channels, panels, weights)
    return weights, layout, False


@jit_inline
def tile_at(t, rows, columns):
    """The image of tile number t, and its row and column among the image's tiles."""
    tile = t % (rows * columns)
    return t // (rows * columns), tile // columns, tile % columns


@jit_inline
def next_tile(n, row, column, rows, columns):
    """`tile_at` of the next one: divisions for every tile took as long as a quarter of its transform."""
    if column + 1 < columns:
        return n, row, column + 1
    if row + 1 < rows:
        return n, row + 1, 0
    return n + 1, 0, 0


@jit_part
def copy_pixels(image, mask, masked, shape, row, left, count, length, to):
    """Copy `count` pixels of a row to `length` floats each; those outside the image and those not kept are zeros."""
    height, width, channels = shape
    zero = splat(np.float32(0))
    whole = channels // LANES * LANES
    for j in range(count):
        end = shifted(to, j * length)
        if 0 <= row < height and 0 <= left + j < width:
            at = (row * width + left + j) * channels
            for k in range(0, whole, LANES):
                value = load(image, at + k)
                store(end, k, select(above(load(mask, at + k), zero), value, zero) if masked else value)
            if whole < length:
                store(end, whole, zero)
                for k in range(whole, channels):
                    if not masked or mask[at + k] > 0:
                        end[k] = image[at + k]
        else:
            for k in range(0, length, LANES):
                store(end, k, zero)


@jit_part
def window_at(images, corner, sides, spare):
    """The pixels from `corner` on (image, row, column), and the floats to the next row and the next pixel.

    They are copied to `spare`, in whole vectors, where some are outside the image or not kept. `images` are pointers to
    the pixels and to what is above zero where they are kept, whether that is so, and the shape (N, H, W, C); `sides`
    the window's height and width.
    """
    x, kept, masked, (samples, height, width, channels) = images
    n, top, left = corner
    tall, wide = sides
    length = (channels + LANES - 1) // LANES * LANES
    size = height * width * channels
    at = n * size + (top * width + left) * channels
    # The last vector of the last pixel must not reach beyond the images.
    fits = at + ((tall - 1) * width + wide - 1) * channels + length <= samples * size
    if fits and top >= 0 and left >= 0 and top + tall <= height and left + wide <= width and not masked:
        return shifted(x, at), width * channels, channels
    image, mask = shifted(x, n * size), shifted(kept, n * size)
    for i in range(tall):
        to = shifted(spare, i * wide * length)
        copy_pixels(image, mask, masked, (height, width, channels), top + i, left, wide, length, to)
    return spare, wide * length, length


@jit_inline
def pixels_of(shape, place, step, corner, side):
    """The first and last pixel that a group of tiles covers, or some more: `side` rows from ``step * row + corner``.

    `place` are the rows and columns of tiles in an image, and the first and last tile of the group.
    """
    _, height, width, _ = shape
    rows, columns, first, last = place
    n, row, _ = tile_at(first, rows, columns)
    begin = n * height + max(0, step * row + corner)
    n, row, _ = tile_at(last - 1, rows, columns)
    return begin * width, (n * height + min(height, step * row + corner + side)) * width


@jit_part
def multiply(tiles, length, count, channels, weights, products):
    """Sum the products of `count` tiles, eight at a time, and one vector of filters over the channels."""
    zero = splat(np.float32(0))
    for t in range(0, count, TILES):
        x0 = shifted(tiles, t * length)
        x1, x2, x3 = shifted(x0, length), shifted(x0, 2 * length), shifted(x0, 3 * length)
        x4, x5, x6 = shifted(x0, 4 * length), shifted(x0, 5 * length), shifted(x0, 6 * length)
        x7 = shifted(x0, 7 * length)
        s0, s1, s2, s3, s4, s5, s6, s7 = zero, zero, zero, zero, zero, zero, zero, zero
        for first in range(0, channels, _CHAIN):
            a0, a1, a2, a3, a4, a5, a6, a7 = zero, zero, zero, zero, zero, zero, zero, zero
            for k in range(first, min(first + _CHAIN, channels)):
                tap = load(weights, k * LANES)
                a0, a1 = fma(splat(x0[k]), tap, a0), fma(splat(x1[k]), tap, a1)
                a2, a3 = fma(splat(x2[k]), tap, a2), fma(splat(x3[k]), tap, a3)
                a4, a5 = fma(splat(x4[k]), tap, a4), fma(splat(x5[k]), tap, a5)
                a6, a7 = fma(splat(x6[k]), tap, a6), fma(splat(x7[k]), tap, a7)
            s0, s1, s2, s3 = s0 + a0, s1 + a1, s2 + a2, s3 + a3
            s4, s5, s6, s7 = s4 + a4, s5 + a5, s6 + a6, s7 + a7
        to = shifted(products, t * LANES)
        store(to, 0, s0)
        store(to, LANES, s1)
        store(to, 2 * LANES, s2)
        store(to, 3 * LANES, s3)
        store(to, 4 * LANES, s4)
        store(to, 5 * LANES, s5)
        store(to, 6 * LANES, s6)
        store(to, 7 * LANES, s7)
