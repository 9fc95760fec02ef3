"""Winograd's F(4x4, 3x3) for 3x3 convolutions with stride 1 and 2x2 max-pooling: 36 multiplications for 144.

Four pooling windows, 4x4 outputs, are one tile, over 6x6 pixels; see `winograd_tiles`. Tiles of one window, as in
`winograd`, took 1.5 to 1.7 times as long, or as long where the outputs are 10x10 and four tiles of nine reach over
them. The plain version is `pooled_direct`.

Transforms are values of polynomials at the points 0, 1, -1, 1/2, -2 and infinity. Errors are two thirds of what the
usual 0, 1, -1, 2, -2 give (B. Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd Convolution for
Deep Neural Networks", 2020), for a few more additions. Beside a direct sum's they are, for random pixels, without and
with ReLU:

========  ================  ============
channels  root mean square  greatest
========  ================  ============
32        2.0, 2.4          2.6, 1.9
64        1.5, 1.8          2.1, 1.5
128       1.1, 1.3          0.9, 1.0
256       0.9, 1.1          0.6, 0.8
========  ================  ============

Where pixels are the same over a tile in one direction or both, all positions in that direction are zero but one, and
the outputs are equal to the last bit, as they should be: maxima that are equal for that reason are found equal. And an
output that sees nothing but zeros, as many behind ReLU do, is the bias, exactly: without a bias rounding would decide
whether ReLU lets its gradient pass. What is not finite spreads over the sixteen outputs of its tile.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import get_num_threads, get_thread_id, prange  # type: ignore[attr-defined]
from numpy.typing import NDArray

from fastcnn.backends.numba.conv.kernels import ask_for, put_pooled
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
from fastcnn.backends.numba.lanes import count_lanes, integers
from fastcnn.backends.numba.packing import FloatArray, Workspace, padded_width
from fastcnn.backends.numba.simd import (
    LANES,
    address,
    equal,
    first_lanes,
    fma,
    load,
    load_where,
    select,
    shifted,
    splat,
    store,
)

#: Pixels of a tile in a row, its positions, and its outputs in a row.
_SIDE, _POSITIONS, _OUTPUTS = 6, 36, 4


def forward(
    x: FloatArray,
    filters: NDArray[Any],
    start: FloatArray,
    least: float | np.float32,
    corner: Corner,
    workspace: Workspace,
    y: FloatArray,
    winners: NDArray[np.uint8],
) -> None:
    """Fill `y` with the maxima of the convolution's 2x2 windows, and `winners` as `pooled_direct` does.

    Args:
        x: images (N, H, W, C).
        filters: (3, 3, C, F).
        start: the bias, (F,) filled up to whole vectors.
        least: what no result is less than.
        corner: where in the image the first window begins.
        workspace: what the transforms are kept in.
        y: the maxima (N, OH // 2, OW // 2, F).
        winners: (N, OH // 2, OW // 2, F in whole vectors).
    """
    channels, length = x.shape[3], padded_width(x.shape[3])
    rows, columns = -(-y.shape[1] // 2), -(-y.shape[2] // 2)
    groups, tiles = groups_of(len(y) * rows * columns, _POSITIONS * length)
    weights, layout, is_wide = weights_of(filters, False, _POSITIONS, _transform_filters, workspace)
    # One vector more from one position to the next: a power of two would use few sets of the caches.
    steps = (tiles * length + LANES, (tiles + 1) * LANES, channels * LANES + LANES if is_wide else 0)
    size = _POSITIONS * (LANES + length + sum(steps)) + padded_width(tiles)
    scratch = workspace.array("winograd", (get_num_threads(), size), zeros=False)
    grid = (rows, columns, groups)
    _forward(x, corner, grid, steps, weights, layout, start, np.float32(least), scratch, y, winners)


@jit_inline
def _tap_sums(g0, g1, g2):
    """Three taps as a polynomial's coefficients: its values at the six points, each with the factor that is its own."""
    even = g0 + g2
    at_half = fma(splat(np.float32(0.25)), g2, fma(splat(np.float32(0.5)), g1, g0))
    at_minus_two = fma(splat(np.float32(4)), g2, fma(splat(np.float32(-2)), g1, g0))
    third = splat(np.float32(1 / 3))
    return (
        g0,
        third * (g1 + even),
        third * (g1 - even),
        splat(np.float32(-16 / 15)) * at_half,
        splat(np.float32(1 / 15)) * at_minus_two,
        g2,
    )


@jit_inline
def _store_row(to, step, values):
    v0, v1, v2, v3, v4, v5 = values
    store(to, 0, v0)
    store(to, step, v1)
    store(to, 2 * step, v2)
    store(to, 3 * step, v3)
    store(to, 4 * step, v4)
    store(to, 5 * step, v5)


@jit_part
def _transform_panel(taps, tap, channel, channels, step, to):
    """Transform one panel of filters; position s of the result goes to ``to + s * step``, (C, LANES)."""
    for c in range(channels):
        g, end = shifted(taps, c * channel), shifted(to, c * LANES)
        a0, a1, a2, a3, a4, a5 = _tap_sums(load(g, 0), load(g, 3 * tap), load(g, 6 * tap))
        b0, b1, b2, b3, b4, b5 = _tap_sums(load(g, tap), load(g, 4 * tap), load(g, 7 * tap))
        c0, c1, c2, c3, c4, c5 = _tap_sums(load(g, 2 * tap), load(g, 5 * tap), load(g, 8 * tap))
        _store_row(end, step, _tap_sums(a0, b0, c0))
        _store_row(shifted(end, 6 * step), step, _tap_sums(a1, b1, c1))
        _store_row(shifted(end, 12 * step), step, _tap_sums(a2, b2, c2))
        _store_row(shifted(end, 18 * step), step, _tap_sums(a3, b3, c3))
        _store_row(shifted(end, 24 * step), step, _tap_sums(a4, b4, c4))
        _store_row(shifted(end, 30 * step), step, _tap_sums(a5, b5, c5))


@parallel_jit
def _transform_filters(taps, layout, channels, panels, transformed):
    """Transform all panels of filters to (panels, 36, C, LANES); `layout` as in `_forward`."""
    step = channels * LANES
    for panel_index in prange(panels):
        panel = np.intp(panel_index)
        to = shifted(address(transformed), panel * _POSITIONS * step)
        _transform_panel(shifted(address(taps), panel * layout[0]), layout[1], layout[2], channels, step, to)


@jit_inline
def _pixel_sums(pixels, step):
    """Sums of six pixels: all but the second are exactly zero where the pixels are the same.

    That is why they begin with differences; and nothing is added here that is subtracted again.
    """
    d0, d1, d2 = load(pixels, 0), load(pixels, step), load(pixels, 2 * step)
    d3, d4, d5 = load(pixels, 3 * step), load(pixels, 4 * step), load(pixels, 5 * step)
    half, more = splat(np.float32(0.5)), splat(np.float32(1.5))
    even, odd = d4 - d2, d3 - d1
    return (
        fma(more, odd, even) + (d0 - d2),
        fma(splat(np.float32(2.5)), d3, fma(half, d2, d4 - d1)),
        fma(half, d3 - d2, even) + (d1 - d2),
        fma(splat(np.float32(2)), odd, even),
        fma(splat(np.float32(-0.5)), odd, even),
        fma(more, even, d5 - d3) - odd,
    )


@jit_part
def _transform_tile(window, row, pixel, length, step, tile, spare):
    """Transform a window of 6x6 pixels; position s of the result goes to ``tile + s * step``, `length` floats.

    Column after column goes through `spare`, which the first-level cache holds: registers would not.
    """
    for k in range(0, length, LANES):
        at, to = shifted(window, k), shifted(tile, k)
        for j in range(_SIDE):
            _store_row(shifted(spare, j * LANES), _SIDE * LANES, _pixel_sums(shifted(at, j * pixel), row))
        for i in range(_SIDE):
            _store_row(shifted(to, i * _SIDE * step), step, _pixel_sums(shifted(spare, i * _SIDE * LANES), LANES))


@jit_inline
def _product_sums(m0, m1, m2, m3, m4, m5):
    """Four outputs: the sums of the products, times the points' powers 0 to 3."""
    even, odd = m1 + m2, m1 - m2
    return (
        m0 + even + (m3 + m4),
        fma(splat(np.float32(0.5)), m3, fma(splat(np.float32(-2)), m4, odd)),
        fma(splat(np.float32(0.25)), m3, fma(splat(np.float32(4)), m4, even)),
        fma(splat(np.float32(0.125)), m3, fma(splat(np.float32(-8)), m4, odd)) + m5,
    )


@jit_inline
def _column(products, step):
    """The sums of one column of positions, which are `step` floats apart."""
    m0, m1, m2 = load(products, 0), load(products, step), load(products, 2 * step)
    return _product_sums(m0, m1, m2, load(products, 3 * step), load(products, 4 * step), load(products, 5 * step))


@jit_part
def _blank(window, down, right, channels):
    """Which outputs of a window see nothing but zeros: bit 8 * row + column."""
    seen, zero = np.int64(0), splat(np.float32(0))
    for i in range(_SIDE):
        for j in range(_SIDE):
            for k in range(0, channels, LANES):
                pixel = load_where(window, i * down + j * right + k, first_lanes(channels - k))
                seen |= np.int64(count_lanes(equal(pixel, zero)) < LANES) << (8 * i + j)
    seen |= seen >> 1 | seen >> 2
    seen |= seen >> 8 | seen >> 16
    return np.int32(~seen & 0x0F0F0F0F)


@jit_part
def _transform_group(images, length, corner, place, spare, step, tiles, blank):
    """Transform a group of tiles, and note which outputs are blank.

    `place` is their rows and columns in an image, and the first and last of them.
    """
    rows, columns, first, last = place
    copied = shifted(spare, _POSITIONS * LANES)
    n, row, column = tile_at(first, rows, columns)
    for t in range(first, last):
        begin = (n, _OUTPUTS * row + corner[0], _OUTPUTS * column + corner[1])
        window, down, right = window_at(images, begin, _SIDE, copied)
        _transform_tile(window, down, right, length, step, shifted(tiles, (t - first) * length), spare)
        blank[t - first] = _blank(window, down, right, images[3][3])
        n, row, column = next_tile(n, row, column, rows, columns)


@jit_inline
def _unless_blank(blank, v0, v1, v2, v3):
    """Four outputs, zero where the lowest bits say so."""
    zero = splat(np.float32(0))
    return (
        select(first_lanes((blank & 1) * LANES), zero, v0),
        select(first_lanes((blank >> 1 & 1) * LANES), zero, v1),
        select(first_lanes((blank >> 2 & 1) * LANES), zero, v2),
        select(first_lanes((blank >> 3 & 1) * LANES), zero, v3),
    )


@jit_part
def _put_maxima(products, step, blank, start, floor, lanes, shape, stride, place, y, winners, spare):
    """Write the maxima of a group of tiles for one vector of filters."""
    _, height, width, count = shape
    rows, columns, first, last = place
    least, down = splat(floor), _SIDE * step
    n, row, column = tile_at(first, rows, columns)
    for t in range(first, last):
        at = shifted(products, (t - first) * LANES)
        a0, a1, a2, a3 = _column(at, down)
        b0, b1, b2, b3 = _column(shifted(at, step), down)
        c0, c1, c2, c3 = _column(shifted(at, 2 * step), down)
        d0, d1, d2, d3 = _column(shifted(at, 3 * step), down)
        e0, e1, e2, e3 = _column(shifted(at, 4 * step), down)
        f0, f1, f2, f3 = _column(shifted(at, 5 * step), down)
        pixel = (n * height + 2 * row) * width + 2 * column
        right, below = 2 * column + 1 < width, 2 * row + 1 < height
        a0, b0, c0, d0 = _product_sums(a0, b0, c0, d0, e0, f0)
        a1, b1, c1, d1 = _product_sums(a1, b1, c1, d1, e1, f1)
        bits = np.intp(blank[t - first])
        if bits != 0:
            a0, b0, c0, d0 = _unless_blank(bits, a0, b0, c0, d0)
            a1, b1, c1, d1 = _unless_blank(bits >> 8, a1, b1, c1, d1)
        to, won = pixel * count, pixel * stride
        put_pooled(a0 + start, b0 + start, a1 + start, b1 + start, least, lanes, y, to, winners, won, spare)
        if right:
            to, won = to + count, won + stride
            put_pooled(c0 + start, d0 + start, c1 + start, d1 + start, least, lanes, y, to, winners, won, spare)
        if below:
            a2, b2, c2, d2 = _product_sums(a2, b2, c2, d2, e2, f2)
            a3, b3, c3, d3 = _product_sums(a3, b3, c3, d3, e3, f3)
            if bits != 0:
                a2, b2, c2, d2 = _unless_blank(bits >> 16, a2, b2, c2, d2)
                a3, b3, c3, d3 = _unless_blank(bits >> 24, a3, b3, c3, d3)
            to, won = (pixel + width) * count, (pixel + width) * stride
            put_pooled(a2 + start, b2 + start, a3 + start, b3 + start, least, lanes, y, to, winners, won, spare)
            if right:
                to, won = to + count, won + stride
                put_pooled(c2 + start, d2 + start, c3 + start, d3 + start, least, lanes, y, to, winners, won, spare)
        n, row, column = next_tile(n, row, column, rows, columns)


@parallel_jit
def _forward(x, corner, grid, steps, filters, layout, start, least, scratch, y, winners):
    """Convolve group after group of tiles.

    `filters` are transformed, (panels, 36, C, LANES), or if ``steps[2]`` is not zero transformed here: `layout` tells
    how many floats further on there is the next panel, the next tap and the next channel.

    While a core multiplies, it asks for the memory of what will be written and read next: the group's maxima, and the
    next group's pixels. Without that 26x26x32 to 64 filters takes a sixth longer.
    """
    channels, count, stride = x.shape[3], y.shape[3], winners.shape[3]
    rows, columns, groups = grid
    tile_step, product_step, weight_step = steps
    length = (channels + LANES - 1) // LANES * LANES
    total = y.shape[0] * rows * columns
    blocks = (total + TILES - 1) // TILES
    for group_index in prange(groups):
        group = np.intp(group_index)
        images = (address(x), address(x), False, x.shape)
        spare = shifted(address(scratch), get_thread_id() * scratch.shape[1])
        tiles = shifted(spare, _POSITIONS * (length + LANES))
        products = shifted(tiles, _POSITIONS * tile_step)
        blank = integers(shifted(products, _POSITIONS * (product_step + weight_step)))
        first, last = blocks * group // groups * TILES, min(blocks * (group + 1) // groups * TILES, total)
        place = (rows, columns, first, last)
        _transform_group(images, length, corner, place, spare, tile_step, tiles, blank)
        maxima, stop = pixels_of(y.shape, place, 2, 0, 2)
        ahead = (rows, columns, min(last, total - 1), min(2 * last - first, total))
        pixels, pixels_stop = pixels_of(x.shape, ahead, _OUTPUTS, corner[0], _SIDE)
        for panel in range((count + LANES - 1) // LANES):
            weights, step = shifted(address(filters), panel * _POSITIONS * channels * LANES), channels * LANES
            if weight_step > 0:
                weights, step = shifted(products, _POSITIONS * product_step), weight_step
                taps = shifted(address(filters), panel * layout[0])
                _transform_panel(taps, layout[1], layout[2], channels, step, weights)
            for s in range(_POSITIONS):
                if panel == 0:
                    ask_for(address(y), maxima * count, stop * count, s, _POSITIONS)
                    ask_for(address(winners), maxima * stride, stop * stride, s, _POSITIONS)
                part, parts = panel * _POSITIONS + s, (count + LANES - 1) // LANES * _POSITIONS
                ask_for(address(x), pixels * channels, pixels_stop * channels, part, parts)
                at, to = shifted(tiles, s * tile_step), shifted(products, s * product_step)
                multiply(at, length, last - first, channels, shifted(weights, s * step), to)
            bias, lanes = load(address(start), panel * LANES), count - panel * LANES
            out, won = shifted(address(y), panel * LANES), shifted(address(winners), panel * LANES)
            _put_maxima(products, product_step, blank, bias, least, lanes, y.shape, stride, place, out, won, spare)
