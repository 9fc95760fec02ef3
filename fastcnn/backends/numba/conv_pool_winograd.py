"""Winograd's F(2x2, 3x3) for a 3x3 convolution with ReLU and 2x2 max-pooling: 16 multiplications for 36.

The four outputs of a pooling window are one tile: of its 4x4 pixels and of the filters sums and differences are
made, those are multiplied, and the products are added up to the four outputs (A. Lavin and S. Gray, "Fast Algorithms
for Convolutional Neural Networks", 2016, section 4.1). For 26x26x32 to 64 filters it takes 0.54 of the time of
`conv_kernels.convolve_pooled`, the plain version.

What it costs: the theorem of `conv_kernels`, that each output is as near to the truth as its own products are large,
holds with products of sums of taps instead. In practice the error is smaller, not larger (on random images and
filters 0.7 of it, root mean square), because only C numbers are added one after the other, and not 9 C. Where pixels
are the same over a tile in one direction or both, their differences are zeros and the outputs are equal to the
last bit, as they should be: maxima that are equal for that reason are found equal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from fastcnn.backends.numba.conv import CHUNKS, Frame
from fastcnn.backends.numba.conv_kernels import fills, place, put_pooled
from fastcnn.backends.numba.jit import jit, jit_inline, jit_part, parallel_jit
from fastcnn.backends.numba.packing import FloatArray, Workspace, float32, padded_width
from fastcnn.backends.numba.simd import LANES, address, fma, load, shifted, splat, store

#: Tiles that are multiplied together, one accumulator each.
_TILES = 8

#: Positions of a tile.
_POSITIONS = 16


def pays(filters_shape: tuple[int, ...]) -> bool:
    """Whether the products that are saved outweigh the transforms, and the filters stay in the second-level cache."""
    kernel_height, kernel_width, channels, count = filters_shape
    return (kernel_height, kernel_width) == (3, 3) and channels >= LANES and count >= LANES and channels * count <= 4096


def forward(
    x: FloatArray,
    filters: NDArray[Any],
    start: FloatArray,
    least: np.float32,
    frame: Frame,
    workspace: Workspace,
    y: FloatArray,
    winners: NDArray[np.uint8],
) -> None:
    """Fill `y` and `winners`, as `conv_kernels.convolve_pooled` does.

    Args:
        x: images (N, H, W, C).
        filters: (3, 3, C, F).
        start: the bias, (F,) filled up to whole vectors.
        least: what no result is less than.
        frame: where the images lie in their margin.
        workspace: what the transforms are kept in.
        y, winners: the results, (N, OH // 2, OW // 2, F) and F in whole vectors.
    """
    channels, transformed = filters.shape[2], transform_filters(filters)
    tile = _TILES * padded_width(channels)
    image = padded_width(frame[0] * frame[1] * channels + LANES)
    size = image + LANES + _POSITIONS * (tile + _TILES * LANES)
    scratch = workspace.array("winograd", (min(len(x), CHUNKS), size))
    _forward(x, frame, transformed, start, least, image, scratch, y, winners)


def transform_filters(filters: NDArray[Any]) -> FloatArray:
    """Return the filters (3, 3, C, F) as they are multiplied, (16, vectors, C, LANES), F filled up to whole vectors."""
    channels, count = filters.shape[2:]
    width = padded_width(count)
    if width > count:
        filters = np.pad(filters, ((0, 0), (0, 0), (0, 0), (0, width - count)))
    transformed = np.empty((_POSITIONS, width // LANES, channels, LANES), np.float32)
    _transform_filters(float32(filters), transformed)
    return transformed


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


@jit
def _transform_filters(filters, transformed):
    channels, width = filters.shape[2:]
    step = channels * width  # from one tap to the next, and from one position to the next
    for panel in range(width // LANES):
        for c in range(channels):
            g = shifted(address(filters), c * width + panel * LANES)
            a0, a1, a2, a3 = _sums(load(g, 0), load(g, 3 * step), load(g, 6 * step))
            b0, b1, b2, b3 = _sums(load(g, step), load(g, 4 * step), load(g, 7 * step))
            c0, c1, c2, c3 = _sums(load(g, 2 * step), load(g, 5 * step), load(g, 8 * step))
            to = shifted(address(transformed), (panel * channels + c) * LANES)
            _store_sums(to, step, a0, b0, c0)
            _store_sums(shifted(to, 4 * step), step, a1, b1, c1)
            _store_sums(shifted(to, 8 * step), step, a2, b2, c2)
            _store_sums(shifted(to, 12 * step), step, a3, b3, c3)


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
def _transform_tile(window, row, channels, length, step, tile):
    """Transform a window of 4x4 pixels; position s of the result goes to ``tile + s * step``, `length` floats."""
    for k in range(0, length, LANES):
        pixel, to = shifted(window, k), shifted(tile, k)
        a0, a1, a2, a3 = _column(pixel, row)
        b0, b1, b2, b3 = _column(shifted(pixel, channels), row)
        c0, c1, c2, c3 = _column(shifted(pixel, 2 * channels), row)
        d0, d1, d2, d3 = _column(shifted(pixel, 3 * channels), row)
        _store_row(to, step, a0, b0, c0, d0)
        _store_row(shifted(to, 4 * step), step, a1, b1, c1, d1)
        _store_row(shifted(to, 8 * step), step, a2, b2, c2, d2)
        _store_row(shifted(to, 12 * step), step, a3, b3, c3, d3)


@jit_part
def _multiply_tiles(tiles, step, channels, weights, weight_step, products):
    """Sum the products of eight tiles and one vector of filters over the channels, at each of the 16 positions."""
    length = step // _TILES
    for s in range(_POSITIONS):
        x0, w = shifted(tiles, s * step), shifted(weights, s * weight_step)
        x1, x2, x3 = shifted(x0, length), shifted(x0, 2 * length), shifted(x0, 3 * length)
        x4, x5, x6 = shifted(x0, 4 * length), shifted(x0, 5 * length), shifted(x0, 6 * length)
        x7 = shifted(x0, 7 * length)
        zero = splat(np.float32(0))
        a0, a1, a2, a3, a4, a5, a6, a7 = zero, zero, zero, zero, zero, zero, zero, zero
        for k in range(channels):
            tap = load(w, k * LANES)
            a0, a1 = fma(splat(x0[k]), tap, a0), fma(splat(x1[k]), tap, a1)
            a2, a3 = fma(splat(x2[k]), tap, a2), fma(splat(x3[k]), tap, a3)
            a4, a5 = fma(splat(x4[k]), tap, a4), fma(splat(x5[k]), tap, a5)
            a6, a7 = fma(splat(x6[k]), tap, a6), fma(splat(x7[k]), tap, a7)
        to = shifted(products, s * _TILES * LANES)
        store(to, 0, a0)
        store(to, LANES, a1)
        store(to, 2 * LANES, a2)
        store(to, 3 * LANES, a3)
        store(to, 4 * LANES, a4)
        store(to, 5 * LANES, a5)
        store(to, 6 * LANES, a6)
        store(to, 7 * LANES, a7)


@jit_part
def _outputs(products, start):
    """The four outputs of a tile, row by row."""
    step = _TILES * LANES
    m0, m1, m2, m3 = load(products, 0), load(products, step), load(products, 2 * step), load(products, 3 * step)
    p4, p5, p6 = load(products, 4 * step), load(products, 5 * step), load(products, 6 * step)
    p7, p8, p9 = load(products, 7 * step), load(products, 8 * step), load(products, 9 * step)
    p10, p11 = load(products, 10 * step), load(products, 11 * step)
    m0, m1, m2, m3 = m0 + p4 + p8, m1 + p5 + p9, m2 + p6 + p10, m3 + p7 + p11
    n0, n1 = p4 - p8 - load(products, 12 * step), p5 - p9 - load(products, 13 * step)
    n2, n3 = p6 - p10 - load(products, 14 * step), p7 - p11 - load(products, 15 * step)
    return m0 + m1 + m2 + start, m1 - m2 - m3 + start, n0 + n1 + n2 + start, n1 - n2 - n3 + start


@parallel_jit
def _forward(x, frame, filters, start, least, image_size, scratch, y, winners):
    samples, height, width, channels = x.shape
    _, rows, columns, count = y.shape
    row, stride = frame[1] * channels, winners.shape[3]
    length = (channels + LANES - 1) // LANES * LANES
    step = _TILES * length
    # In place if reading whole vectors of a pixel never ends behind the images.
    direct = fills(frame, height, width) and length == channels
    floor = splat(least)
    for chunk_index in prange(scratch.shape[0]):
        chunk, chunks = np.intp(chunk_index), scratch.shape[0]
        spare = shifted(address(scratch), chunk * scratch.shape[1])
        work = shifted(spare, LANES)
        tiles = shifted(work, image_size)
        products = shifted(tiles, _POSITIONS * step)
        for n in range(samples * chunk // chunks, samples * (chunk + 1) // chunks):
            image = shifted(address(x), n * height * width * channels)
            if not direct:
                place(image, height, width, channels, frame, work)
                image = work
            out = shifted(address(y), n * rows * columns * count)
            won = shifted(address(winners), n * rows * columns * stride)
            for first in range(0, rows * columns, _TILES):
                last = min(first + _TILES, rows * columns)
                for t in range(first, last):
                    window = shifted(image, 2 * (t // columns * row + t % columns * channels))
                    _transform_tile(window, row, channels, length, step, shifted(tiles, (t - first) * length))
                for panel in range(filters.shape[1]):
                    weights = shifted(address(filters), panel * channels * LANES)
                    _multiply_tiles(tiles, step, channels, weights, filters.shape[1] * channels * LANES, products)
                    lanes = count - panel * LANES
                    for t in range(first, last):
                        a0, a1, a2, a3 = _outputs(
                            shifted(products, (t - first) * LANES), load(address(start), panel * LANES)
                        )
                        to, mark = t * count + panel * LANES, t * stride + panel * LANES
                        put_pooled(a0, a1, a2, a3, floor, lanes, out, to, won, mark, spare)
