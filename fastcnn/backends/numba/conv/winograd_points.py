"""The sums that F(4, 3) makes in one direction, of taps, pixels and products; and F(2, 3), where a tile is short.

F(4, 3) makes four outputs from six pixels: values of polynomials at the points 0, 1, -1, 1/2, -2 and infinity. Errors
are two thirds of what the usual 0, 1, -1, 2, -2 give (B. Barabasz et al., "Error Analysis and Improving the Accuracy of
Winograd Convolution for Deep Neural Networks", 2020), for a few more additions. F(2, 3) makes two outputs from four
pixels, at four of those points: 0, 1, -1 and infinity. The sums of the taps are the same, factors included, so that one
set of transformed filters serves both.

Positions are numbered by their row and column among 6x6, whichever of them a tile has.
"""

from __future__ import annotations

import numpy as np

from fastcnn.backends.numba.jit import jit_inline, jit_part
from fastcnn.backends.numba.simd import LANES, fma, load, shifted, splat, store

#: Pixels of a whole tile in a row, its positions, and its outputs in a row; pixels of a short one.
SIDE, POSITIONS, OUTPUTS, SHORT = 6, 36, 4, 4


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
def transform_panel(taps, tap, channel, channels, step, to):
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


@jit_inline
def has(side, position):
    """Whether a tile of so many pixels in a direction has a position: a short one lacks the fourth and the fifth."""
    return side == SIDE or position < 3 or position == 5


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


@jit_inline
def _store_pixel_sums(pixels, step, side, to, to_step):
    """Write the sums of `side` pixels, where they belong among six positions."""
    if side == SIDE:
        _store_row(to, to_step, _pixel_sums(pixels, step))
    else:
        d0, d1, d2, d3 = load(pixels, 0), load(pixels, step), load(pixels, 2 * step), load(pixels, 3 * step)
        more = splat(np.float32(1.5))
        store(to, 0, d0 - d2)
        store(to, to_step, more * (d1 + d2))
        store(to, 2 * to_step, more * (d1 - d2))
        store(to, 5 * to_step, d3 - d1)


@jit_part
def transform_tile(window, down, right, sides, length, step, tile, spare):
    """Transform a window of pixels; position s of the result goes to ``tile + s * step``, `length` floats.

    Column after column goes through `spare`, which the first-level cache holds: registers would not.
    """
    tall, wide = sides
    for k in range(0, length, LANES):
        at, to = shifted(window, k), shifted(tile, k)
        for j in range(wide):
            _store_pixel_sums(shifted(at, j * right), down, tall, shifted(spare, j * LANES), SIDE * LANES)
        for i in range(SIDE):
            if has(tall, i):
                row = shifted(spare, i * SIDE * LANES)
                _store_pixel_sums(row, LANES, wide, shifted(to, i * SIDE * step), step)


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
def _short_product_sums(m0, m1, m2, m5):
    """Two outputs."""
    return m0 + (m1 + m2), m1 - m2 + m5


@jit_inline
def store_output_sums(products, step, side, to, to_step):
    """Write the outputs of the products in one direction of a tile of `side` pixels: four, or two."""
    m0, m1, m2, m5 = load(products, 0), load(products, step), load(products, 2 * step), load(products, 5 * step)
    if side == SIDE:
        v0, v1, v2, v3 = _product_sums(m0, m1, m2, load(products, 3 * step), load(products, 4 * step), m5)
        store(to, 0, v0)
        store(to, to_step, v1)
        store(to, 2 * to_step, v2)
        store(to, 3 * to_step, v3)
    else:
        v0, v1 = _short_product_sums(m0, m1, m2, m5)
        store(to, 0, v0)
        store(to, to_step, v1)


@jit_inline
def output_row(sums, side):
    """The outputs of a row of sums that are LANES apart: four, or two of which the others are copies."""
    m0, m1, m2, m5 = load(sums, 0), load(sums, LANES), load(sums, 2 * LANES), load(sums, 5 * LANES)
    if side == SIDE:
        return _product_sums(m0, m1, m2, load(sums, 3 * LANES), load(sums, 4 * LANES), m5)
    a0, a1 = _short_product_sums(m0, m1, m2, m5)
    return a0, a1, a0, a1
