"""Convolution and 2x2 max-pooling in one pass, and their filter gradient, for one filter.

Of the convolution's output nothing is kept but the pooled value and, for each corner of the window, one bit: did it
win.

For one channel and 3x3 filters both passes run in the transform domain of F(2x2, 3x3): a window's four outputs take 20
multiply-adds instead of 36, and its part of the filter gradient (the transpose of the same formula) 16 instead of 36;
the gradient's inverse transform is linear, so that it is applied once, to the sum over all windows. The plain versions
are `conv_pool_forward` and `conv_backward` below.
"""

from __future__ import annotations

import numpy as np

from fastcnn.backends.numba.fused.geometry import BLOCK
from fastcnn.backends.numba.fused.image import load4
from fastcnn.backends.numba.fused.windows import clear_padding, live_vectors
from fastcnn.backends.numba.jit import jit_inline
from fastcnn.backends.numba.lanes import COMPRESSES, store_sums, sum_lanes
from fastcnn.backends.numba.simd import (
    LANES,
    equal,
    fma,
    fnma,
    line_of,
    load,
    load_mask,
    maximum,
    prefetch,
    select,
    splat,
    store,
    store_mask,
)

#: Vectors that `add_products` sums: sixteen of the transform and one of the bias.
PRODUCTS = 17

#: Sums that `conv3x3_backward` ends with: nine taps' and the bias'.
_SUMS = 10

_ZERO = np.float32(0.0)
_HALF = np.float32(0.5)
_ONE = np.float32(1.0)
_FOUR = np.float32(4.0)


@jit_inline
def _pool(g, y00, y01, y10, y11, bias, v, pooled, winners, training):
    """The bias is added after the comparison: rounding must not make a tie of two outputs that differ."""
    top = maximum(maximum(y00, y01), maximum(y10, y11))
    store(pooled, v * LANES, top + bias)
    if not training:
        return
    w00, w01, w10, w11 = equal(y00, top), equal(y01, top), equal(y10, top), equal(y11, top)
    if g.first_only:
        w11 = w11 & ~w10 & ~w01 & ~w00
        w10 = w10 & ~w01 & ~w00
        w01 = w01 & ~w00
    store_mask(winners, 4 * v, w00)
    store_mask(winners, 4 * v + 1, w01)
    store_mask(winners, 4 * v + 2, w10)
    store_mask(winners, 4 * v + 3, w11)


@jit_inline
def _prefetch(soon, v):
    """Ask for dense weights that are needed next, a vector's at a time, while the arithmetic has work."""
    for line in range(v * BLOCK * LANES, (v + 1) * BLOCK * LANES, line_of(soon)):
        prefetch(soon, line)


@jit_inline
def _transform_taps(a, b, c):
    """One row or column of G g G' of F(2x2, 3x3)."""
    both = _HALF * (a + c)
    half = _HALF * b
    return a, both + half, both - half, c


@jit_inline
def _transformed_column(a, b, c):
    t0, t1, t2, t3 = _transform_taps(a, b, c)
    return splat(t0), splat(t1), splat(t2), splat(t3)


@jit_inline
def _two_outputs(u0, u1, u2, u3, x0, x1, x2, x3):
    """One column of A' m A of F(2x2, 3x3), the multiplications with it."""
    product = u1 * x1
    return fma(u0, x0, fma(u2, x2, product)), fma(u3, x3, fnma(u2, x2, product))


@jit_inline
def conv3x3_taps(g, f, filters):
    """Filter `f`, 3x3, in the transform domain, column by column, and its bias: one vector for each number."""
    w = f * g.row
    a0, a1, a2, a3 = _transform_taps(filters[w], filters[w + 1], filters[w + 2])
    b0, b1, b2, b3 = _transform_taps(filters[w + 3], filters[w + 4], filters[w + 5])
    c0, c1, c2, c3 = _transform_taps(filters[w + 6], filters[w + 7], filters[w + 8])
    left = _transformed_column(a0, b0, c0) + _transformed_column(a1, b1, c1)
    return left + _transformed_column(a2, b2, c2) + _transformed_column(a3, b3, c3) + (splat(filters[w + 9]),)


@jit_inline
def conv3x3_pool_forward(g, taps, windows, tops, winners, training, soon, ahead):
    """Convolution of one channel with the filter of `conv3x3_taps` and 2x2 max-pooling, over the live windows.

    Behind their pooled values, `tops` receives a vector of the flat windows'.
    """
    u00, u10, u20, u30, u01, u11, u21, u31, u02, u12, u22, u32, u03, u13, u23, u33, bias = taps
    if COMPRESSES:
        store(tops, g.vectors * LANES, fma(splat(windows.flat[0]), u11, bias))
    transformed = windows.transformed
    for v in range(live_vectors(g, windows)):
        at = 16 * v * LANES
        x0, x1, x2, x3 = load4(transformed, at, 4 * LANES)
        y00, y10 = _two_outputs(u00, u10, u20, u30, x0, x1, x2, x3)
        x0, x1, x2, x3 = load4(transformed, at + LANES, 4 * LANES)
        upper, lower = _two_outputs(u01, u11, u21, u31, x0, x1, x2, x3)
        y00, y10 = y00 + upper, y10 + lower
        x0, x1, x2, x3 = load4(transformed, at + 2 * LANES, 4 * LANES)
        next_upper, next_lower = _two_outputs(u02, u12, u22, u32, x0, x1, x2, x3)
        y00, y10 = y00 + next_upper, y10 + next_lower
        y01, y11 = upper - next_upper, lower - next_lower
        x0, x1, x2, x3 = load4(transformed, at + 3 * LANES, 4 * LANES)
        upper, lower = _two_outputs(u03, u13, u23, u33, x0, x1, x2, x3)
        y01, y11 = y01 + upper, y11 + lower
        if ahead:
            _prefetch(soon, v)
        y11 = select(load_mask(windows.repeats, 2 * v), y00, y11)
        y10 = select(load_mask(windows.repeats, 2 * v + 1), y01, y10)
        _pool(g, y00, y01, y10, y11, bias, v, tops, winners, training)


@jit_inline
def _multiply_row(transformed, at, left, right, m0, m1, m2, m3):
    m0 = fma(left, load(transformed, at), m0)
    m1 = fma(left + right, load(transformed, at + LANES), m1)
    m2 = fma(left - right, load(transformed, at + 2 * LANES), m2)
    m3 = fma(right, load(transformed, at + 3 * LANES), m3)
    return m0, m1, m2, m3


@jit_inline
def _untransform(m0, m1, m2, m3):
    half = splat(_HALF)
    both = half * (m1 + m2)
    return m0 + both, half * (m1 - m2), both + m3


@jit_inline
def no_products():
    """What `add_products` starts from."""
    zero = splat(_ZERO)
    four = (zero, zero, zero, zero)
    return four + four + four + four + (zero,)


@jit_inline
def add_products(g, windows, winners, grad, products):
    """Add one image's part of a filter's gradient in the transform domain, lanes apart, and of its bias'.

    `grad` is what `collect_gradient` returned.
    """
    zero = splat(_ZERO)
    m00, m01, m02, m03, m10, m11, m12, m13, m20, m21, m22, m23, m30, m31, m32, m33, total = products
    if COMPRESSES:
        flat = splat(_ONE if g.first_only else _FOUR) * load(grad, (g.vectors + 1) * LANES)
        m11 = fma(flat, splat(windows.flat[0]), m11)
        if g.conv_bias:
            total = total + flat
    transformed = windows.transformed
    for v in range(live_vectors(g, windows)):
        top = load(grad, v * LANES)
        g00 = select(load_mask(winners, 4 * v), top, zero)
        g01 = select(load_mask(winners, 4 * v + 1), top, zero)
        g10 = select(load_mask(winners, 4 * v + 2), top, zero)
        g11 = select(load_mask(winners, 4 * v + 3), top, zero)
        s0, s1 = g00 + g10, g01 + g11
        at = 16 * v * LANES
        m00, m01, m02, m03 = _multiply_row(transformed, at, g00, g01, m00, m01, m02, m03)
        m10, m11, m12, m13 = _multiply_row(transformed, at + 4 * LANES, s0, s1, m10, m11, m12, m13)
        m20, m21, m22, m23 = _multiply_row(transformed, at + 8 * LANES, g00 - g10, g01 - g11, m20, m21, m22, m23)
        m30, m31, m32, m33 = _multiply_row(transformed, at + 12 * LANES, g10, g11, m30, m31, m32, m33)
        if g.conv_bias:
            total = total + (s0 + s1)
    return m00, m01, m02, m03, m10, m11, m12, m13, m20, m21, m22, m23, m30, m31, m32, m33, total


@jit_inline
def conv3x3_backward(g, f, products, factor, filters, sums):
    """``filters[f] += factor * gradient``, of the images in `products`: the SGD step for minus the learning rate."""
    m00, m01, m02, m03, m10, m11, m12, m13, m20, m21, m22, m23, m30, m31, m32, m33, total = products
    u00, u10, u20 = _untransform(m00, m10, m20, m30)
    u01, u11, u21 = _untransform(m01, m11, m21, m31)
    u02, u12, u22 = _untransform(m02, m12, m22, m32)
    u03, u13, u23 = _untransform(m03, m13, m23, m33)
    w00, w01, w02 = _untransform(u00, u01, u02, u03)
    w10, w11, w12 = _untransform(u10, u11, u12, u13)
    w20, w21, w22 = _untransform(u20, u21, u22, u23)
    store_sums(sums, 0, (w00, w01, w02, w10, w11, w12, w20, w21, w22, total))
    for i in range(0, _SUMS, LANES):
        store(filters, f * g.row + i, fma(splat(factor), load(sums, i), load(filters, f * g.row + i)))


@jit_inline
def _plane(g, c, y, x):
    """Where the pixels (2i + y, 2j + x) of channel `c` begin: their plane, `y >> 1` rows down."""
    return ((2 * c + (y & 1)) * (g.kernel_width + 1) + x) * g.plane + (y >> 1) * g.pooled_width


@jit_inline
def conv_pool_forward(g, f, planes, filters, pooled, winners, training):
    """As `conv3x3_pool_forward`, for any kernel size and any number of channels."""
    bias = splat(filters[f * g.row + g.channels * g.kernel_height * g.kernel_width])
    for v in range(g.vectors):
        i = v * LANES
        y00 = y01 = y10 = y11 = splat(_ZERO)
        at = f * g.row
        for c in range(g.channels):
            for dy in range(g.kernel_height):
                for dx in range(g.kernel_width):
                    w = splat(filters[at])
                    upper = _plane(g, c, dy, dx) + i
                    lower = _plane(g, c, dy + 1, dx) + i
                    y00 = fma(w, load(planes, upper), y00)
                    y01 = fma(w, load(planes, upper + g.plane), y01)
                    y10 = fma(w, load(planes, lower), y10)
                    y11 = fma(w, load(planes, lower + g.plane), y11)
                    at += 1
        _pool(g, y00, y01, y10, y11, bias, v, pooled, winners, training)
    clear_padding(g, pooled)


@jit_inline
def conv_backward(g, f, planes, winners, grad_pooled, factor, filters):
    """As `conv3x3_backward`, for any kernel size and any number of channels, without the transform."""
    zero = splat(_ZERO)
    at = f * g.row
    for c in range(g.channels):
        for dy in range(g.kernel_height):
            for dx in range(g.kernel_width):
                s00 = s01 = s10 = s11 = zero
                for v in range(g.vectors):
                    grad = load(grad_pooled, v * LANES)
                    bits = 4 * v
                    upper = _plane(g, c, dy, dx) + v * LANES
                    lower = _plane(g, c, dy + 1, dx) + v * LANES
                    s00 = fma(select(load_mask(winners, bits), grad, zero), load(planes, upper), s00)
                    s01 = fma(select(load_mask(winners, bits + 1), grad, zero), load(planes, upper + g.plane), s01)
                    s10 = fma(select(load_mask(winners, bits + 2), grad, zero), load(planes, lower), s10)
                    s11 = fma(select(load_mask(winners, bits + 3), grad, zero), load(planes, lower + g.plane), s11)
                filters[at] += factor * sum_lanes((s00 + s01) + (s10 + s11))
                at += 1
    if g.conv_bias:
        total = zero
        for v in range(g.vectors):
            grad = load(grad_pooled, v * LANES)
            for corner in range(4):
                total = total + select(load_mask(winners, 4 * v + corner), grad, zero)
        filters[at] += factor * sum_lanes(total)
