"""Winograd's F(2x2, 3x3) for 3x3 convolutions with stride 1: 16 multiplications for 36.

Four neighbouring outputs are one tile, over 4x4 pixels; see `winograd_tiles`. The plain version is
`kernels.convolve`; with 2x2 max-pooling behind it, `winograd_pooled` takes larger tiles.

What it costs: the theorem of a plain sum, that each output is as near to the truth as its own products are large,
holds with products of sums of taps instead. In practice the error is smaller, because only C numbers are added, 16 at
a time, and not 9 C one after the other: for 32 to 256 random channels, with ReLU and without, 0.2 to 0.7 of the direct
sum's root mean square error and 0.1 to 0.4 of its greatest. Where pixels are the same over a tile in one direction or
both, their differences are zeros and the outputs are equal to the last bit, as they should be. What is not finite
spreads over the four outputs of its tile.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import get_num_threads, get_thread_id, prange  # type: ignore[attr-defined]
from numpy.typing import NDArray

from fastcnn.backends.numba.conv.kernels import ask_for, put
from fastcnn.backends.numba.conv.winograd_tiles import (
    TILES,
    Corner,
    groups_of,
    multiply,
    next_tile,
    pixels_of,
    tile_at,
    weights_of,
    window_at,
)
from fastcnn.backends.numba.jit import jit_inline, jit_part, parallel_jit
from fastcnn.backends.numba.packing import EVERYTHING, FloatArray, Workspace, padded_width
from fastcnn.backends.numba.simd import LANES, address, load, maximum, shifted, splat, store

#: Positions of a tile.
_POSITIONS = 16


def positions_of(output: tuple[int, ...]) -> int:
    """Return how many positions the tiles of an image have, for results of the shape `output`."""
    return _POSITIONS * -(-output[1] // 2) * -(-output[2] // 2)


def forward(
    x: FloatArray,
    filters: NDArray[Any],
    turned: bool,
    start: FloatArray,
    least: float,
    corner: Corner,
    workspace: Workspace,
    y: FloatArray,
    kept: FloatArray = EVERYTHING,
) -> None:
    """Fill `y` (N, OH, OW, F) with the convolution.

    Args:
        x: images (N, H, W, C).
        filters: (3, 3, C, F), or where they are to be turned as `packed_filters` does it, (3, 3, F, C).
        turned: whether they are.
        start: the bias, (F,) filled up to whole vectors.
        least: what no result is less than.
        corner: where in the image the first window begins.
        workspace: what the transforms are kept in.
        y: the results.
        kept: where this is not empty, pixels count only where it is above zero.
    """
    channels, length = x.shape[3], padded_width(x.shape[3])
    rows, columns = -(-y.shape[1] // 2), -(-y.shape[2] // 2)
    groups, tiles = groups_of(len(y) * rows * columns, _POSITIONS * length)
    weights, layout, is_wide = weights_of(filters, turned, _POSITIONS, _transform_filters, workspace)
    # One vector more from one position to the next: a power of two would use few sets of the caches.
    steps = (tiles * length + LANES, (tiles + 1) * LANES, channels * LANES + LANES if is_wide else 0)
    scratch = workspace.array("winograd", (get_num_threads(), LANES + _POSITIONS * (length + sum(steps))), zeros=False)
    grid = (rows, columns, groups)
    _forward(x, kept, corner, grid, steps, weights, layout, start, np.float32(least), scratch, y)


@jit_inline
def store_four(to, step, v0, v1, v2, v3):
    """Write four vectors, `step` floats from one to the next."""
    store(to, 0, v0)
    store(to, step, v1)
    store(to, 2 * step, v2)
    store(to, 3 * step, v3)


@jit_inline
def _sums(g0, g1, g2):
    half = splat(np.float32(0.5))
    even, odd = half * (g0 + g2), half * g1
    return g0, even + odd, even - odd, g2


@jit_inline
def _store_sums(to, step, g0, g1, g2):
    g0, g1, g2, g3 = _sums(g0, g1, g2)
    store_four(to, step, g0, g1, g2, g3)


@jit_part
def _transform_panel(taps, tap, channel, channels, step, to):
    """Transform one panel of filters; position s of the result goes to ``to + s * step``, (C, LANES)."""
    for c in range(channels):
        g, end = shifted(taps, c * channel), shifted(to, c * LANES)
        a0, a1, a2, a3 = _sums(load(g, 0), load(g, 3 * tap), load(g, 6 * tap))
        b0, b1, b2, b3 = _sums(load(g, tap), load(g, 4 * tap), load(g, 7 * tap))
        c0, c1, c2, c3 = _sums(load(g, 2 * tap), load(g, 5 * tap), load(g, 8 * tap))
        _store_sums(end, step, a0, b0, c0)
        _store_sums(shifted(end, 4 * step), step, a1, b1, c1)
        _store_sums(shifted(end, 8 * step), step, a2, b2, c2)
        _store_sums(shifted(end, 12 * step), step, a3, b3, c3)


@parallel_jit
def _transform_filters(taps, layout, channels, panels, transformed):
    """Transform all panels of filters to (panels, 16, C, LANES); `layout` as in `_forward`."""
    step = channels * LANES
    for panel_index in prange(panels):
        panel = np.intp(panel_index)
        to = shifted(address(transformed), panel * _POSITIONS * step)
        _transform_panel(shifted(address(taps), panel * layout[0]), layout[1], layout[2], channels, step, to)


@jit_inline
def _differences(d0, d1, d2, d3):
    return d0 - d2, d1 + d2, d2 - d1, d1 - d3


@jit_inline
def _column(pixel, row):
    return _differences(load(pixel, 0), load(pixel, row), load(pixel, 2 * row), load(pixel, 3 * row))


@jit_inline
def _store_row(to, step, d0, d1, d2, d3):
    d0, d1, d2, d3 = _differences(d0, d1, d2, d3)
    store_four(to, step, d0, d1, d2, d3)


@jit_part
def transform_tile(window, row, pixel, length, step, tile):
    """Transform a window of 4x4 pixels; position s of the result goes to ``tile + s * step``, `length` floats."""
    for k in range(0, length, LANES):
        at, to = shifted(window, k), shifted(tile, k)
        a0, a1, a2, a3 = _column(at, row)
        b0, b1, b2, b3 = _column(shifted(at, pixel), row)
        c0, c1, c2, c3 = _column(shifted(at, 2 * pixel), row)
        d0, d1, d2, d3 = _column(shifted(at, 3 * pixel), row)
        _store_row(to, step, a0, b0, c0, d0)
        _store_row(shifted(to, 4 * step), step, a1, b1, c1, d1)
        _store_row(shifted(to, 8 * step), step, a2, b2, c2, d2)
        _store_row(shifted(to, 12 * step), step, a3, b3, c3, d3)


@jit_inline
def _outputs(products, step, start):
    """The four outputs of a tile, row by row."""
    m0, m1, m2, m3 = load(products, 0), load(products, step), load(products, 2 * step), load(products, 3 * step)
    p4, p5, p6 = load(products, 4 * step), load(products, 5 * step), load(products, 6 * step)
    p7, p8, p9 = load(products, 7 * step), load(products, 8 * step), load(products, 9 * step)
    p10, p11 = load(products, 10 * step), load(products, 11 * step)
    m0, m1, m2, m3 = m0 + p4 + p8, m1 + p5 + p9, m2 + p6 + p10, m3 + p7 + p11
    n0, n1 = p4 - p8 - load(products, 12 * step), p5 - p9 - load(products, 13 * step)
    n2, n3 = p6 - p10 - load(products, 14 * step), p7 - p11 - load(products, 15 * step)
    return m0 + m1 + m2 + start, m1 - m2 - m3 + start, n0 + n1 + n2 + start, n1 - n2 - n3 + start


@jit_part
def _transform_group(images, length, corner, place, spare, step, tiles):
    """Transform a group of tiles: `place` is their rows and columns in an image, and the first and last of them."""
    rows, columns, first, last = place
    n, row, column = tile_at(first, rows, columns)
    for t in range(first, last):
        begin = (n, 2 * row + corner[0], 2 * column + corner[1])
        window, down, right = window_at(images, begin, (4, 4), spare)
        transform_tile(window, down, right, length, step, shifted(tiles, (t - first) * length))
        n, row, column = next_tile(n, row, column, rows, columns)


@jit_part
def _put_tiles(products, step, start, floor, lanes, shape, place, y, spare):
    """Write the outputs of a group of tiles for one vector of filters."""
    _, height, width, count = shape
    rows, columns, first, last = place
    least = splat(floor)
    n, row, column = tile_at(first, rows, columns)
    for t in range(first, last):
        a0, a1, a2, a3 = _outputs(shifted(products, (t - first) * LANES), step, start)
        to = ((n * height + 2 * row) * width + 2 * column) * count
        put(maximum(least, a0), lanes, y, to, spare)
        right, below = 2 * column + 1 < width, 2 * row + 1 < height
        if right:
            put(maximum(least, a1), lanes, y, to + count, spare)
        if below:
            put(maximum(least, a2), lanes, y, to + width * count, spare)
        if right and below:
            put(maximum(least, a3), lanes, y, to + (width + 1) * count, spare)
        n, row, column = next_tile(n, row, column, rows, columns)


@parallel_jit
def _forward(x, kept, corner, grid, steps, filters, layout, start, least, scratch, y):
    """Convolve group after group of tiles.

    `filters` are transformed, (panels, 16, C, LANES), or if ``steps[2]`` is not zero transformed here: `layout` tells
    how many floats further on there is the next panel, the next tap and the next channel.

    While a core multiplies, it asks for the memory of what will be written and read next: the group's outputs, and the
    next group's pixels. Without that 26x26x32 to 64 filters takes a twentieth longer.
    """
    channels, count = x.shape[3], y.shape[3]
    rows, columns, groups = grid
    tile_step, product_step, weight_step = steps
    length = (channels + LANES - 1) // LANES * LANES
    total = y.shape[0] * rows * columns
    blocks = (total + TILES - 1) // TILES
    for group_index in prange(groups):
        group = np.intp(group_index)
        images = (address(x), address(kept), kept.size > 0, x.shape)
        spare = shifted(address(scratch), get_thread_id() * scratch.shape[1])
        window = shifted(spare, LANES)
        tiles = shifted(window, _POSITIONS * length)
        products = shifted(tiles, _POSITIONS * tile_step)
        first, last = blocks * group // groups * TILES, min(blocks * (group + 1) // groups * TILES, total)
        place = (rows, columns, first, last)
        _transform_group(images, length, corner, place, window, tile_step, tiles)
        outputs, stop = pixels_of(y.shape, place, 2, 0, 2)
        ahead = (rows, columns, min(last, total - 1), min(2 * last - first, total))
        pixels, pixels_stop = pixels_of(x.shape, ahead, 2, corner[0], 4)
        for panel in range((count + LANES - 1) // LANES):
            weights, step = shifted(address(filters), panel * _POSITIONS * channels * LANES), channels * LANES
            if weight_step > 0:
                weights, step = shifted(products, _POSITIONS * product_step), weight_step
                taps = shifted(address(filters), panel * layout[0])
                _transform_panel(taps, layout[1], layout[2], channels, step, weights)
            for s in range(_POSITIONS):
                if panel == 0:
                    ask_for(address(y), outputs * count, stop * count, s, _POSITIONS)
                part, parts = panel * _POSITIONS + s, (count + LANES - 1) // LANES * _POSITIONS
                ask_for(address(x), pixels * channels, pixels_stop * channels, part, parts)
                at, to = shifted(tiles, s * tile_step), shifted(products, s * product_step)
                multiply(at, length, last - first, channels, shifted(weights, s * step), to)
            bias, lanes = load(address(start), panel * LANES), count - panel * LANES
            out = shifted(address(y), panel * LANES)
            _put_tiles(products, product_step, bias, least, lanes, y.shape, place, out, spare)
