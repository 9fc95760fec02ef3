"""Winograd's F(4x4, 3x3) for 3x3 convolutions with stride 1 and 2x2 max-pooling: 36 multiplications for 144.

Four pooling windows, 4x4 outputs, are one tile, over 6x6 pixels; see `winograd_tiles`. Tiles of one window, as in
`winograd`, took 1.5 to 1.7 times as long. Where a row or column of windows is left over at an edge, tiles there are one
window high or wide: see `_kind`. For 10x10 outputs that takes 256 multiplications for 324 and, with 24 channels and 32
filters, three quarters of the time. The transforms are in `winograd_points`. The plain version is `pooled_direct`.

Beside a direct sum's errors those of whole tiles are, for random pixels, without and with ReLU:

========  ================  ============
channels  root mean square  greatest
========  ================  ============
32        2.0, 2.4          2.6, 1.9
64        1.5, 1.8          2.1, 1.5
128       1.1, 1.3          0.9, 1.0
256       0.9, 1.1          0.6, 0.8
========  ================  ============

Those of tiles that are small in one direction are half of that, in both directions three tenths.

Where pixels are the same over a tile in one direction or both, all positions in that direction are zero but one, and
the outputs are equal to the last bit, as they should be: maxima that are equal for that reason are found equal. And an
output that sees nothing but zeros, as many behind ReLU do, is the bias, exactly: without a bias rounding would decide
whether ReLU lets its gradient pass. What is not finite spreads over the outputs of its tile.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import get_num_threads, get_thread_id, prange  # type: ignore[attr-defined]
from numpy.typing import NDArray

from fastcnn.backends.numba.conv.kernels import ask_for, put_pooled
from fastcnn.backends.numba.conv.winograd_points import (
    OUTPUTS,
    POSITIONS,
    SHORT,
    SIDE,
    has,
    output_row,
    store_output_sums,
    transform_panel,
    transform_tile,
)
from fastcnn.backends.numba.conv.winograd_tiles import (
    TILES,
    Corner,
    groups_of,
    multiply,
    next_tile,
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
    load,
    load_where,
    select,
    shifted,
    splat,
)

#: Kinds of tiles: see `_kind`.
_KINDS = 4


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
    groups, tiles = _groups_of(y.shape, POSITIONS * length)
    weights, layout, is_wide = weights_of(filters, False, POSITIONS, _transform_filters, workspace)
    # One vector more from one position to the next: a power of two would use few sets of the caches.
    steps = (tiles * length + LANES, (tiles + 1) * LANES, channels * LANES + LANES if is_wide else 0)
    size = POSITIONS * (LANES + length + sum(steps)) + padded_width(tiles)
    scratch = workspace.array("winograd", (get_num_threads(), size), zeros=False)
    _forward(x, corner, groups, steps, weights, layout, start, np.float32(least), scratch, y, winners)


def positions_of(maxima: tuple[int, ...]) -> int:
    """Return how many positions the tiles of an image have, for maxima (N, OH // 2, OW // 2, F)."""
    down, right = (SIDE * (extent // 2) + SHORT * (extent % 2) for extent in maxima[1:3])
    return down * right


def _groups_of(maxima: tuple[int, ...], floats: int) -> tuple[int, int]:
    """Return how many groups there are of the tiles of all kinds, and the tiles of the largest, at most."""
    samples, height, width, _ = maxima
    groups, _ = groups_of(-(-samples * positions_of(maxima) // POSITIONS), floats)
    kinds = (high * wide for high in (height // 2, height % 2) for wide in (width // 2, width % 2))
    blocks = (-(-samples * tiles // TILES) for tiles in kinds)
    return groups, TILES * sum(-(-number // groups) for number in blocks)


@parallel_jit
def _transform_filters(taps, layout, channels, panels, transformed):
    """Transform all panels of filters to (panels, 36, C, LANES); `layout` as in `_forward`."""
    step = channels * LANES
    for panel_index in prange(panels):
        panel = np.intp(panel_index)
        to = shifted(address(transformed), panel * POSITIONS * step)
        transform_panel(shifted(address(taps), panel * layout[0]), layout[1], layout[2], channels, step, to)


@jit_inline
def _is_seen(pixel, channels):
    """Whether a pixel is anything but zeros."""
    zero, seen = splat(np.float32(0)), False
    for k in range(0, channels, LANES):
        part = load_where(pixel, k, first_lanes(channels - k))
        seen |= count_lanes(equal(part, zero)) < LANES
    return seen


@jit_part
def _blank(window, down, right, sides, channels):
    """Which outputs of a window see nothing but zeros: bit 8 * row + column.

    Each output sees one of four pixels in the middle: where none of those is zeros, no other is looked at.
    """
    tall, wide = sides
    low, high = shifted(window, 2 * down), shifted(window, (tall - 3) * down)
    if (
        _is_seen(shifted(low, 2 * right), channels)
        and _is_seen(shifted(high, 2 * right), channels)
        and _is_seen(shifted(low, (wide - 3) * right), channels)
        and _is_seen(shifted(high, (wide - 3) * right), channels)
    ):
        return np.int32(0)
    seen = np.int64(0)
    for i in range(tall):
        for j in range(wide):
            seen |= np.int64(_is_seen(shifted(window, i * down + j * right), channels)) << (8 * i + j)
    seen |= seen >> 1 | seen >> 2
    seen |= seen >> 8 | seen >> 16
    return np.int32(~seen & 0x0F0F0F0F)


@jit_inline
def _kind(kind, shape):
    """Tiles of one kind: the rows and columns of them in an image, the first one's first output, their sides in pixels.

    `shape` is that of the maxima. The kinds are, in this order: two outputs wide, at the right edge; 4x4 outputs; two
    outputs high, at the lower edge; and both, in the corner. So the tiles that have a position are neighbours, whether
    only the second and third kind have its column, only the first and second its row, or both.
    """
    rows, columns = shape[1] // 2, shape[2] // 2
    low, narrow = kind >= 2, kind == 0 or kind == 3
    first = (OUTPUTS * rows if low else 0, OUTPUTS * columns if narrow else 0)
    sides = (SHORT if low else SIDE, SHORT if narrow else SIDE)
    return (shape[1] % 2 if low else rows, shape[2] % 2 if narrow else columns), first, sides


@jit_inline
def _share(kind, shape, group):
    """The first and the last tile of one kind in a group, and room for them: each group has a share of each kind.

    `group` is its number, and how many there are.
    """
    (rows, columns), _, _ = _kind(kind, shape)
    total = shape[0] * rows * columns
    blocks = (total + TILES - 1) // TILES
    first, last = blocks * group[0] // group[1], blocks * (group[0] + 1) // group[1]
    return first * TILES, min(last * TILES, total), (last - first) * TILES


@jit_inline
def _ends(shape, group):
    """Where among a group's tiles the room of each kind ends."""
    narrow = _share(0, shape, group)[2]
    whole = narrow + _share(1, shape, group)[2]
    low = whole + _share(2, shape, group)[2]
    return narrow, whole, low, low + _share(3, shape, group)[2]


@jit_part
def _transform_group(images, length, corner, shape, group, spare, step, tiles, blank):
    """Transform a group of tiles, and note which outputs are blank."""
    copied, begin = shifted(spare, POSITIONS * LANES), 0
    for kind in range(_KINDS):
        (rows, columns), (top, left), sides = _kind(kind, shape)
        first, last, room = _share(kind, shape, group)
        n, row, column = tile_at(first, rows, columns)
        for t in range(begin, begin + last - first):
            at = (n, OUTPUTS * row + top + corner[0], OUTPUTS * column + left + corner[1])
            window, down, right = window_at(images, at, sides, copied)
            transform_tile(window, down, right, sides, length, step, shifted(tiles, t * length), spare)
            blank[t] = _blank(window, down, right, sides, images[3][3])
            n, row, column = next_tile(n, row, column, rows, columns)
        begin += room


@jit_inline
def _unless_blank(blank, outputs):
    """Four outputs, zero where the lowest bits say so."""
    v0, v1, v2, v3 = outputs
    zero = splat(np.float32(0))
    return (
        select(first_lanes((blank & 1) * LANES), zero, v0),
        select(first_lanes((blank >> 1 & 1) * LANES), zero, v1),
        select(first_lanes((blank >> 2 & 1) * LANES), zero, v2),
        select(first_lanes((blank >> 3 & 1) * LANES), zero, v3),
    )


@jit_part
def _put_maxima(products, step, blank, start, floor, lanes, shape, stride, group, y, winners, spare):
    """Write the maxima of a group of tiles for one vector of filters."""
    _, height, width, count = shape
    least, edge, begin = splat(floor), shifted(spare, OUTPUTS * SIDE * LANES), 0
    for kind in range(_KINDS):
        (rows, columns), (top, left), (tall, wide) = _kind(kind, shape)
        first, last, room = _share(kind, shape, group)
        n, row, column = tile_at(first, rows, columns)
        for t in range(begin, begin + last - first):
            for j in range(SIDE):
                if has(wide, j):
                    at = shifted(products, t * LANES + j * step)
                    store_output_sums(at, SIDE * step, tall, shifted(spare, j * LANES), SIDE * LANES)
            pixel = (n * height + 2 * row + top // 2) * width + 2 * column + left // 2
            bits = np.intp(blank[t])
            for i in range(0, tall - 2, 2):
                sums = shifted(spare, i * SIDE * LANES)
                upper, lower = output_row(sums, wide), output_row(shifted(sums, SIDE * LANES), wide)
                if bits != 0:
                    upper, lower = _unless_blank(bits >> 8 * i, upper), _unless_blank(bits >> 8 * i + 8, lower)
                to, won = pixel * count, pixel * stride
                a0, a1, a2, a3 = upper
                b0, b1, b2, b3 = lower
                put_pooled(a0 + start, a1 + start, b0 + start, b1 + start, least, lanes, y, to, winners, won, edge)
                if wide == SIDE:
                    to, won = to + count, won + stride
                    put_pooled(a2 + start, a3 + start, b2 + start, b3 + start, least, lanes, y, to, winners, won, edge)
                pixel += width
            n, row, column = next_tile(n, row, column, rows, columns)
        begin += room


@jit_inline
def _ask_for_share(array, group, part, parts):
    """Ask for a part of a group's share of an array; a group behind the last has none."""
    size = array.size if group[0] < group[1] else 0
    ask_for(address(array), size * group[0] // group[1], size * (group[0] + 1) // group[1], part, parts)


@parallel_jit
def _forward(x, corner, groups, steps, filters, layout, start, least, scratch, y, winners):
    """Convolve group after group of tiles.

    `filters` are transformed, (panels, 36, C, LANES), or if ``steps[2]`` is not zero transformed here: `layout` tells
    how many floats further on there is the next panel, the next tap and the next channel.

    While a core multiplies, it asks for the memory of what will be written and read next: the group's maxima, and the
    next group's pixels. Without that 26x26x32 to 64 filters takes a sixth longer.
    """
    channels, count, stride = x.shape[3], y.shape[3], winners.shape[3]
    tile_step, product_step, weight_step = steps
    length = (channels + LANES - 1) // LANES * LANES
    panels = (count + LANES - 1) // LANES
    for group_index in prange(groups):
        group, following = (np.intp(group_index), groups), (np.intp(group_index) + 1, groups)
        images = (address(x), address(x), False, x.shape)
        spare = shifted(address(scratch), get_thread_id() * scratch.shape[1])
        tiles = shifted(spare, POSITIONS * (length + LANES))
        products = shifted(tiles, POSITIONS * tile_step)
        blank = integers(shifted(products, POSITIONS * (product_step + weight_step)))
        _transform_group(images, length, corner, y.shape, group, spare, tile_step, tiles, blank)
        narrow, whole, low, total = _ends(y.shape, group)
        for panel in range(panels):
            weights, step = shifted(address(filters), panel * POSITIONS * channels * LANES), channels * LANES
            if weight_step > 0:
                weights, step = shifted(products, POSITIONS * product_step), weight_step
                taps = shifted(address(filters), panel * layout[0])
                transform_panel(taps, layout[1], layout[2], channels, step, weights)
            for s in range(POSITIONS):
                if panel == 0:
                    _ask_for_share(y, group, s, POSITIONS)
                    _ask_for_share(winners, group, s, POSITIONS)
                _ask_for_share(x, following, panel * POSITIONS + s, panels * POSITIONS)
                first, last = 0, total
                if not has(SHORT, s % SIDE):
                    first, last = narrow, low
                if not has(SHORT, s // SIDE):
                    last = whole
                at = shifted(tiles, s * tile_step + first * length)
                to = shifted(products, s * product_step + first * LANES)
                multiply(at, length, last - first, channels, shifted(weights, s * step), to)
            bias, lanes = load(address(start), panel * LANES), count - panel * LANES
            out, won = shifted(address(y), panel * LANES), shifted(address(winners), panel * LANES)
            _put_maxima(products, product_step, blank, bias, least, lanes, y.shape, stride, group, out, won, spare)
