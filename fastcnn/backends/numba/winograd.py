"""Winograd's F(2x2, 3x3) for 3x3 convolutions with stride 1: 16 multiplications for 36.

Four neighbouring outputs are one tile: of its 4x4 pixels and of the filters sums and differences are made, those are
multiplied, and the products are added up to the four outputs (A. Lavin and S. Gray, "Fast Algorithms for Convolutional
Neural Networks", 2016, section 4.1). The plain version is `conv_kernels.convolve`.

At each of the tile's 16 positions that is a product of two matrices, (tiles, C) with (C, F). A group of tiles is
transformed, stays in the second-level cache while panels of filters, a vector wide, go by, and leaves it as outputs:
what a panel needs at one position stays in the first-level cache for all tiles of the group.

What it costs: the theorem of a plain sum, that each output is as near to the truth as its own products are large,
holds with products of sums of taps instead. In practice the error is smaller, because only C numbers are added one
after the other and not 9 C: for 32 to 256 random channels, with ReLU and without, 0.6 to 0.8 of the direct sum's root
mean square error and 0.3 to 0.6 of its greatest. Where pixels are the same over a tile in one direction or both, their
differences are zeros and the outputs are equal to the last bit, as they should be: maxima that are equal for that
reason are found equal. What is not finite spreads over the four outputs of its tile.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import get_num_threads, get_thread_id, prange  # type: ignore[attr-defined]
from numpy.typing import NDArray

from fastcnn.backends.numba.conv_filters import packed_filters
from fastcnn.backends.numba.conv_kernels import put, put_pooled
from fastcnn.backends.numba.jit import jit_inline, jit_part, parallel_jit
from fastcnn.backends.numba.packing import EVERYTHING, FloatArray, Workspace, float32, padded_width
from fastcnn.backends.numba.simd import LANES, above, address, fma, load, maximum, select, shifted, splat, store

#: Tiles that are multiplied together, one accumulator each.
_TILES = 8

#: Positions of a tile.
_POSITIONS = 16

#: Floats of a group of tiles at one position, at most: at all of them half of a second-level cache of 1 MB.
_GROUP_FLOATS = 8192

#: Tiles of a group, at most: more would gain nothing.
_GROUP_TILES = 64

#: Floats of transformed filters, at most: those of more, 1 MB, leave the second-level cache, and every group of tiles
#: transforms them panel by panel. For 7x7x256 to 512 filters that takes 0.6 of the time on two cores.
_WEIGHTS_FLOATS = 1 << 18

_NO_WINNERS = np.zeros((0, 0, 0, 0), np.uint8)

Corner = tuple[int, int]


def pays(kernel: tuple[int, ...], output: tuple[int, ...]) -> bool:
    """Whether the products that are saved outweigh the transforms.

    Args:
        kernel: (kernel height, kernel width, C, F).
        output: of the convolution (N, OH, OW, F), before pooling.
    """
    kernel_height, kernel_width, channels, count = kernel
    samples, height, width, _ = output
    tiles = -(-height // 2) * -(-width // 2)
    return (
        (kernel_height, kernel_width) == (3, 3)
        and min(channels, count) >= LANES
        and samples * tiles >= 4 * _TILES  # or the transform of the filters does not pay
        and 9 * height * width >= 24 * tiles  # few tiles that reach over the output
    )


def forward(
    x: FloatArray,
    filters: NDArray[Any],
    turned: bool,
    start: FloatArray,
    least: float | np.float32,
    corner: Corner,
    workspace: Workspace,
    y: FloatArray,
    winners: NDArray[np.uint8] = _NO_WINNERS,
    kept: FloatArray = EVERYTHING,
) -> None:
    """Fill `y` with the convolution, or its maxima of 2x2 windows and `winners` as `convolve_pooled` does.

    Args:
        x: images (N, H, W, C).
        filters: (3, 3, C, F), or where they are to be turned as `packed_filters` does it, (3, 3, F, C).
        turned: whether they are.
        start: the bias, (F,) filled up to whole vectors.
        least: what no result is less than.
        corner: the row and column of the image at which the first window begins; where there are zeros around it,
            they are negative.
        workspace: what the transforms are kept in.
        y: the results, (N, OH, OW, F) or (N, OH // 2, OW // 2, F).
        winners: (N, OH // 2, OW // 2, F in whole vectors), or nothing: no pooling.
        kept: where this is not empty, pixels count only where it is above zero.
    """
    channels, count = x.shape[3], y.shape[3]
    length, panels = padded_width(channels), padded_width(count) // LANES
    rows, columns = y.shape[1:3] if winners.size else (-(-y.shape[1] // 2), -(-y.shape[2] // 2))
    blocks = -(-len(y) * rows * columns // _TILES)
    groups = -(-blocks * _TILES // min(_GROUP_TILES, max(_TILES, _GROUP_FLOATS // length)))
    groups = min(blocks, -(-groups // 4) * 4)  # as many for each of two or four threads
    tiles = -(-blocks // groups) * _TILES
    is_wide = _POSITIONS * channels * panels * LANES > _WEIGHTS_FLOATS
    if is_wide and not turned and count % LANES == 0:
        weights, layout = float32(filters).reshape(-1), (LANES, channels * count, count)
    else:
        weights = packed_filters(filters, turned).reshape(-1)
        layout = (9 * channels * LANES, channels * LANES, LANES)
    if not is_wide:
        taps, weights = weights, workspace.array("weights", (panels * _POSITIONS * channels * LANES,), zeros=False)
        _transform_filters(taps, layout, channels, panels, weights)
    # One vector more from one position to the next: a power of two would use few sets of the caches.
    steps = (tiles * length + LANES, (tiles + 1) * LANES, channels * LANES + LANES if is_wide else 0)
    scratch = workspace.array("winograd", (get_num_threads(), LANES + _POSITIONS * (length + sum(steps))), zeros=False)
    grid = (rows, columns, groups)
    _forward(x, kept, corner, grid, steps, weights, layout, start, np.float32(least), scratch, y, winners)


@jit_inline
def _sums(g0, g1, g2):
    half = splat(np.float32(0.5))
    even, odd = half * (g0 + g2), half * g1
    return g0, even + odd, even - odd, g2


@jit_inline
def _store_sums(to, step, g0, g1, g2):
    g0, g1, g2, g3 = _sums(g0, g1, g2)
    store(to, 0, g0)
    store(to, step, g1)
    store(to, 2 * step, g2)
    store(to, 3 * step, g3)


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
    store(to, 0, d0)
    store(to, step, d1)
    store(to, 2 * step, d2)
    store(to, 3 * step, d3)


@jit_part
def _transform_tile(window, row, pixel, length, step, tile):
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
def _multiply(tiles, length, count, channels, weights, products):
    """Sum the products of `count` tiles, eight at a time, and one vector of filters over the channels."""
    zero = splat(np.float32(0))
    for t in range(0, count, _TILES):
        x0 = shifted(tiles, t * length)
        x1, x2, x3 = shifted(x0, length), shifted(x0, 2 * length), shifted(x0, 3 * length)
        x4, x5, x6 = shifted(x0, 4 * length), shifted(x0, 5 * length), shifted(x0, 6 * length)
        x7 = shifted(x0, 7 * length)
        a0, a1, a2, a3, a4, a5, a6, a7 = zero, zero, zero, zero, zero, zero, zero, zero
        for k in range(channels):
            tap = load(weights, k * LANES)
            a0, a1 = fma(splat(x0[k]), tap, a0), fma(splat(x1[k]), tap, a1)
            a2, a3 = fma(splat(x2[k]), tap, a2), fma(splat(x3[k]), tap, a3)
            a4, a5 = fma(splat(x4[k]), tap, a4), fma(splat(x5[k]), tap, a5)
            a6, a7 = fma(splat(x6[k]), tap, a6), fma(splat(x7[k]), tap, a7)
        to = shifted(products, t * LANES)
        store(to, 0, a0)
        store(to, LANES, a1)
        store(to, 2 * LANES, a2)
        store(to, 3 * LANES, a3)
        store(to, 4 * LANES, a4)
        store(to, 5 * LANES, a5)
        store(to, 6 * LANES, a6)
        store(to, 7 * LANES, a7)


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


@jit_inline
def tile_at(t, rows, columns):
    """The image of tile number t, and the row and column of its first output."""
    tile = t % (rows * columns)
    return t // (rows * columns), 2 * (tile // columns), 2 * (tile % columns)


@jit_inline
def next_tile(n, top, left, rows, columns):
    """`tile_at` of the next one: divisions for every tile took as long as a quarter of its transform."""
    if left + 2 < 2 * columns:
        return n, top, left + 2
    if top + 2 < 2 * rows:
        return n, top + 2, 0
    return n + 1, 0, 0


@jit_part
def _transform_group(x, mask, masked, shape, corner, place, window, step, tiles):
    """Transform a group of tiles: `place` is their rows and columns in an image, and the first and last of them."""
    samples, height, width, channels = shape
    rows, columns, first, last = place
    length = (channels + LANES - 1) // LANES * LANES
    size = height * width * channels
    n, top, left = tile_at(first, rows, columns)
    for t in range(first, last):
        i, j = top + corner[0], left + corner[1]
        at = n * size + (i * width + j) * channels
        to = shifted(tiles, (t - first) * length)
        # The last vector of the last pixel must not reach beyond the images.
        whole = at + (3 * width + 3) * channels + length <= samples * size
        if i >= 0 and j >= 0 and i + 4 <= height and j + 4 <= width and whole and not masked:
            _transform_tile(shifted(x, at), width * channels, channels, length, step, to)
        else:
            image, kept = shifted(x, n * size), shifted(mask, n * size)
            for r in range(4):
                to_row = shifted(window, 4 * r * length)
                copy_pixels(image, kept, masked, (height, width, channels), i + r, j, 4, length, to_row)
            _transform_tile(window, 4 * length, length, length, step, to)
        n, top, left = next_tile(n, top, left, rows, columns)


@jit_part
def _put_tiles(products, step, start, floor, lanes, shape, place, y, spare):
    """Write the outputs of a group of tiles for one vector of filters."""
    _, height, width, count = shape
    rows, columns, first, last = place
    least = splat(floor)
    n, top, left = tile_at(first, rows, columns)
    for t in range(first, last):
        a0, a1, a2, a3 = _outputs(shifted(products, (t - first) * LANES), step, start)
        to = ((n * height + top) * width + left) * count
        put(maximum(least, a0), lanes, y, to, spare)
        right, below = left + 1 < width, top + 1 < height
        if right:
            put(maximum(least, a1), lanes, y, to + count, spare)
        if below:
            put(maximum(least, a2), lanes, y, to + width * count, spare)
        if right and below:
            put(maximum(least, a3), lanes, y, to + (width + 1) * count, spare)
        n, top, left = next_tile(n, top, left, rows, columns)


@jit_part
def _put_maxima(products, step, start, floor, lanes, shape, winners_shape, place, y, winners, spare):
    """Write the maxima of a group of tiles for one vector of filters."""
    count, stride = shape[3], winners_shape[3]
    _, _, first, last = place
    least = splat(floor)
    for t in range(first, last):
        a0, a1, a2, a3 = _outputs(shifted(products, (t - first) * LANES), step, start)
        put_pooled(a0, a1, a2, a3, least, lanes, y, t * count, winners, t * stride, spare)


@parallel_jit
def _forward(x, kept, corner, grid, steps, filters, layout, start, least, scratch, y, winners):
    """Convolve group after group of tiles.

    `filters` are transformed, (panels, 16, C, LANES), or if ``steps[2]`` is not zero transformed here: `layout` tells
    how many floats further on there is the next panel, the next tap and the next channel.
    """
    channels, count = x.shape[3], y.shape[3]
    rows, columns, groups = grid
    tile_step, product_step, weight_step = steps
    length = (channels + LANES - 1) // LANES * LANES
    total = y.shape[0] * rows * columns
    blocks = (total + _TILES - 1) // _TILES
    for group_index in prange(groups):
        group = np.intp(group_index)
        spare = shifted(address(scratch), get_thread_id() * scratch.shape[1])
        window = shifted(spare, LANES)
        tiles = shifted(window, _POSITIONS * length)
        products = shifted(tiles, _POSITIONS * tile_step)
        first, last = blocks * group // groups * _TILES, min(blocks * (group + 1) // groups * _TILES, total)
        place = (rows, columns, first, last)
        _transform_group(address(x), address(kept), kept.size > 0, x.shape, corner, place, window, tile_step, tiles)
        for panel in range((count + LANES - 1) // LANES):
            weights, step = shifted(address(filters), panel * _POSITIONS * channels * LANES), channels * LANES
            if weight_step > 0:
                weights, step = shifted(products, _POSITIONS * product_step), weight_step
                taps = shifted(address(filters), panel * layout[0])
                _transform_panel(taps, layout[1], layout[2], channels, step, weights)
            for s in range(_POSITIONS):
                at, to = shifted(tiles, s * tile_step), shifted(products, s * product_step)
                _multiply(at, length, last - first, channels, shifted(weights, s * step), to)
            bias, lanes = load(address(start), panel * LANES), count - panel * LANES
            out = shifted(address(y), panel * LANES)
            if winners.size > 0:
                won = shifted(address(winners), panel * LANES)
                _put_maxima(products, product_step, bias, least, lanes, y.shape, winners.shape, place, out, won, spare)
            else:
                _put_tiles(products, product_step, bias, least, lanes, y.shape, place, out, spare)
