"""The tutorial network's layers for one image and one filter, on vector registers: the pieces of `fused`'s loops.

Where the plain version (``backends/reference.py``) walks over pixels, these walk over pooling windows, LANES at a time:

* The image is split into planes, ``plane[a][x][i][j] = image[2i + a][2j + x]``. The four convolution outputs of
  a 2x2 pooling window then need, for every tap, the same index of four planes: convolution and pooling are one
  pass without a shuffle. Windows are numbered row by row, and a filter's windows are padded to whole vectors.
* Of the convolution's output nothing is kept but the pooled value and, for each corner of the window, one bit: did it win.
* The filter gradient of a 3x3 convolution from 2x2 blocks of output gradient takes 36 multiplications a window. In
  the transform domain of Winograd's F(2x2, 3x3) (Lavin and Gray, "Fast Algorithms for Convolutional Neural
  Networks", 2015; the gradient is the transpose of their formula) it takes 16, and the inverse transform is linear, so
  that it is applied once, to the sum over all windows. The forward pass stays direct: equal windows must give equal
  outputs to the last bit, or ties would be lost.
* A filter's weights are one row: its taps, then its bias, padded to whole vectors.
* Dense weights stand filter by filter in blocks of ten classes, ``weights[filter][block][vector][10][LANES]``: one
  stream of memory, and what one filter needs fits the first-level cache.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastcnn.backends.numba.jit import jit_inline
from fastcnn.backends.numba.simd import (
    LANES,
    address,
    equal,
    evens,
    fma,
    load,
    load_mask,
    max_lanes,
    maximum,
    odds,
    power_of_two,
    rotate,
    select,
    shifted,
    splat,
    store,
    store_mask,
    store_sums,
    sum_lanes,
)

#: Classes that one pass over the pooled activations serves: ten accumulators and ten vectors of weights fit the registers.
BLOCK = 10

#: Added to a float below 2**22, this leaves the nearest integer in the lowest bits of the sum.
_ROUND = np.float32(1.5 * 2**23)
_ZERO = np.float32(0.0)
_HALF = np.float32(0.5)
_ONE = np.float32(1.0)


class Geometry(NamedTuple):
    """The sizes that every kernel needs."""

    height: int
    width: int
    channels: int
    kernel_height: int
    kernel_width: int
    filters: int
    classes: int
    pooled_height: int
    pooled_width: int
    vectors: int  # that hold one filter's windows
    plane: int  # floats from one plane of the image to the next
    planes: int  # floats of all planes
    image: int  # pixels of an image, and behind them what vectors may read too much
    row: int  # floats from one filter's weights to the next
    blocks: int  # of ten classes
    padded: int  # classes, rounded up to whole blocks and whole vectors
    conv_bias: bool
    first_only: bool  # of several greatest elements the first wins, not all
    train_conv: bool


class Network(NamedTuple):
    """The weights, in the kernels' layout, and the scale and offset of the pixels."""

    filters: NDArray[np.float32]
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    scaling: NDArray[np.float32]


class Workspace(NamedTuple):
    """What one thread needs; `planes` and `transformed` hold two images, this step's and the next's."""

    image: NDArray[np.uint8] | NDArray[np.float32]
    planes: NDArray[np.float32]
    transformed: NDArray[np.float32]
    pooled: NDArray[np.float32]
    winners: NDArray[np.uint16]
    grad_pooled: NDArray[np.float32]
    sums: NDArray[np.float32]
    logits: NDArray[np.float32]
    delta: NDArray[np.float32]


@jit_inline
def network_pointers(network):
    """The same tuple with pointers in place of the arrays."""
    return Network(address(network.filters), address(network.weights), address(network.bias), address(network.scaling))


@jit_inline
def is_3x3(g):
    """Whether the quicker kernels for one channel and 3x3 filters apply."""
    return g.kernel_height == 3 and g.kernel_width == 3 and g.channels == 1


@jit_inline
def fetch(g, images, index, image):
    """Copy image `index` of (N, H, W, C) channel by channel into `image`, behind which it is safe to read."""
    pixels = g.height * g.width
    source = shifted(images, index * pixels * g.channels)
    if g.channels == 1:
        for i in range(pixels):
            image[i] = source[i]
    else:
        for i in range(pixels):
            for c in range(g.channels):
                image[c * pixels + i] = source[i * g.channels + c]


@jit_inline
def split_into_planes(g, image, scaling, planes):
    """Scale the pixels of `image` (flat, channel by channel, padded by two vectors) and deal them out to the planes."""
    scale = splat(scaling[0])
    offset = splat(scaling[1])
    rows = min(g.height, 2 * g.pooled_height + g.kernel_height - 1)
    one_vector = g.pooled_width + (g.kernel_width >> 1) <= LANES
    for c in range(g.channels):
        for y in range(rows):
            source = (c * g.height + y) * g.width
            row = (2 * c + (y & 1)) * (g.kernel_width + 1) * g.plane + (y >> 1) * g.pooled_width
            # A row's last lanes may spill into the next row, which is written after it.
            for j in range(0, g.pooled_width, LANES):
                left = fma(load(image, source + 2 * j), scale, offset)
                right = fma(load(image, source + 2 * j + LANES), scale, offset)
                even, odd = evens(left, right), odds(left, right)
                for x in range(0, g.kernel_width + 1, 2):
                    if x > 0:
                        if one_vector:
                            even, odd = rotate(even), rotate(odd)
                        else:
                            left = fma(load(image, source + 2 * j + x), scale, offset)
                            right = fma(load(image, source + 2 * j + x + LANES), scale, offset)
                            even, odd = evens(left, right), odds(left, right)
                    store(planes, row + x * g.plane + j, even)
                    if x < g.kernel_width:
                        store(planes, row + (x + 1) * g.plane + j, odd)


@jit_inline
def _transform(a, b, c, d):
    """One column of B'd of F(2x2, 3x3), its last row negated: then the gradient's transform needs no negation."""
    return a - c, b + c, c - b, d - b


@jit_inline
def _transform_row(transformed, at, a, b, c, d):
    t0, t1, t2, t3 = _transform(a, b, c, d)
    store(transformed, at, t0)
    store(transformed, at + LANES, t1)
    store(transformed, at + 2 * LANES, t2)
    store(transformed, at + 3 * LANES, t3)


@jit_inline
def _load4(planes, at, step):
    return load(planes, at), load(planes, at + step), load(planes, at + 2 * step), load(planes, at + 3 * step)


@jit_inline
def transform_planes(g, planes, transformed):
    """F(2x2, 3x3)'s input transform of every window, for `conv3x3_backward`."""
    for v in range(g.vectors):
        i = v * LANES
        below = i + g.pooled_width
        x00, x01, x02, x03 = _load4(planes, i, g.plane)
        x10, x11, x12, x13 = _load4(planes, i + 4 * g.plane, g.plane)
        x20, x21, x22, x23 = _load4(planes, below, g.plane)
        x30, x31, x32, x33 = _load4(planes, below + 4 * g.plane, g.plane)
        a00, a10, a20, a30 = _transform(x00, x10, x20, x30)
        a01, a11, a21, a31 = _transform(x01, x11, x21, x31)
        a02, a12, a22, a32 = _transform(x02, x12, x22, x32)
        a03, a13, a23, a33 = _transform(x03, x13, x23, x33)
        at = 16 * v * LANES
        _transform_row(transformed, at, a00, a01, a02, a03)
        _transform_row(transformed, at + 4 * LANES, a10, a11, a12, a13)
        _transform_row(transformed, at + 8 * LANES, a20, a21, a22, a23)
        _transform_row(transformed, at + 12 * LANES, a30, a31, a32, a33)


@jit_inline
def _pool(y00, y01, y10, y11, first_only, at, pooled, winners):
    top = maximum(maximum(y00, y01), maximum(y10, y11))
    store(pooled, at * LANES, top)
    w00, w01, w10, w11 = equal(y00, top), equal(y01, top), equal(y10, top), equal(y11, top)
    if first_only:
        w11 = w11 & ~w10 & ~w01 & ~w00
        w10 = w10 & ~w01 & ~w00
        w01 = w01 & ~w00
    store_mask(winners, 4 * at, w00)
    store_mask(winners, 4 * at + 1, w01)
    store_mask(winners, 4 * at + 2, w10)
    store_mask(winners, 4 * at + 3, w11)


@jit_inline
def _clear_padding(g, f, pooled):
    """The lanes behind a filter's last window belong to no weight: zero, so that they never count."""
    for i in range(f * g.vectors * LANES + g.pooled_height * g.pooled_width, (f + 1) * g.vectors * LANES):
        pooled[i] = _ZERO


@jit_inline
def conv3x3_pool_forward(g, f, planes, filters, pooled, winners):
    """Convolution of one channel with one 3x3 filter and 2x2 max-pooling in one pass."""
    w = f * g.row
    w00, w01, w02 = splat(filters[w]), splat(filters[w + 1]), splat(filters[w + 2])
    w10, w11, w12 = splat(filters[w + 3]), splat(filters[w + 4]), splat(filters[w + 5])
    w20, w21, w22 = splat(filters[w + 6]), splat(filters[w + 7]), splat(filters[w + 8])
    bias = splat(filters[w + 9])
    for v in range(g.vectors):
        i = v * LANES
        below = i + g.pooled_width
        x0, x1, x2, x3 = _load4(planes, i, g.plane)
        y00 = fma(w02, x2, fma(w01, x1, fma(w00, x0, bias)))
        y01 = fma(w02, x3, fma(w01, x2, fma(w00, x1, bias)))
        x0, x1, x2, x3 = _load4(planes, i + 4 * g.plane, g.plane)
        y00 = fma(w12, x2, fma(w11, x1, fma(w10, x0, y00)))
        y01 = fma(w12, x3, fma(w11, x2, fma(w10, x1, y01)))
        y10 = fma(w02, x2, fma(w01, x1, fma(w00, x0, bias)))
        y11 = fma(w02, x3, fma(w01, x2, fma(w00, x1, bias)))
        x0, x1, x2, x3 = _load4(planes, below, g.plane)
        y00 = fma(w22, x2, fma(w21, x1, fma(w20, x0, y00)))
        y01 = fma(w22, x3, fma(w21, x2, fma(w20, x1, y01)))
        y10 = fma(w12, x2, fma(w11, x1, fma(w10, x0, y10)))
        y11 = fma(w12, x3, fma(w11, x2, fma(w10, x1, y11)))
        x0, x1, x2, x3 = _load4(planes, below + 4 * g.plane, g.plane)
        y10 = fma(w22, x2, fma(w21, x1, fma(w20, x0, y10)))
        y11 = fma(w22, x3, fma(w21, x2, fma(w20, x1, y11)))
        _pool(y00, y01, y10, y11, g.first_only, f * g.vectors + v, pooled, winners)
    _clear_padding(g, f, pooled)


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
def conv3x3_backward(g, f, transformed, winners, grad_pooled, factor, filters, sums):
    """``filters[f] += factor * gradient``: the SGD step where `factor` is minus the learning rate."""
    zero = splat(_ZERO)
    m00 = m01 = m02 = m03 = m10 = m11 = m12 = m13 = zero
    m20 = m21 = m22 = m23 = m30 = m31 = m32 = m33 = total = zero
    for v in range(g.vectors):
        bits = 4 * (f * g.vectors + v)
        grad = load(grad_pooled, v * LANES)
        g00, g01 = (
            select(load_mask(winners, bits), grad, zero),
            select(load_mask(winners, bits + 1), grad, zero),
        )
        g10, g11 = (
            select(load_mask(winners, bits + 2), grad, zero),
            select(load_mask(winners, bits + 3), grad, zero),
        )
        s0, s1 = g00 + g10, g01 + g11
        at = 16 * v * LANES
        m00, m01, m02, m03 = _multiply_row(transformed, at, g00, g01, m00, m01, m02, m03)
        m10, m11, m12, m13 = _multiply_row(transformed, at + 4 * LANES, s0, s1, m10, m11, m12, m13)
        m20, m21, m22, m23 = _multiply_row(transformed, at + 8 * LANES, g00 - g10, g01 - g11, m20, m21, m22, m23)
        m30, m31, m32, m33 = _multiply_row(transformed, at + 12 * LANES, g10, g11, m30, m31, m32, m33)
        if g.conv_bias:
            total = total + (s0 + s1)
    u00, u10, u20 = _untransform(m00, m10, m20, m30)
    u01, u11, u21 = _untransform(m01, m11, m21, m31)
    u02, u12, u22 = _untransform(m02, m12, m22, m32)
    u03, u13, u23 = _untransform(m03, m13, m23, m33)
    w00, w01, w02 = _untransform(u00, u01, u02, u03)
    w10, w11, w12 = _untransform(u10, u11, u12, u13)
    w20, w21, w22 = _untransform(u20, u21, u22, u23)
    store_sums(sums, 0, (w00, w01, w02, w10, w11, w12, w20, w21, w22, total))
    for i in range(0, BLOCK, LANES):
        store(filters, f * g.row + i, fma(splat(factor), load(sums, i), load(filters, f * g.row + i)))


@jit_inline
def _plane(g, c, y, x):
    """Where the pixels (2i + y, 2j + x) of channel `c` begin: their plane, `y >> 1` rows down."""
    return ((2 * c + (y & 1)) * (g.kernel_width + 1) + x) * g.plane + (y >> 1) * g.pooled_width


@jit_inline
def conv_pool_forward(g, f, planes, filters, pooled, winners):
    """As `conv3x3_pool_forward`, for any kernel size and any number of channels."""
    bias = splat(filters[f * g.row + g.channels * g.kernel_height * g.kernel_width])
    for v in range(g.vectors):
        i = v * LANES
        y00 = y01 = y10 = y11 = bias
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
        _pool(y00, y01, y10, y11, g.first_only, f * g.vectors + v, pooled, winners)
    _clear_padding(g, f, pooled)


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
                    bits = 4 * (f * g.vectors + v)
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
                total = total + select(load_mask(winners, 4 * (f * g.vectors + v) + corner), grad, zero)
        filters[at] += factor * sum_lanes(total)


@jit_inline
def _store5(pointer, at, a, b, c, d, e):
    store(pointer, at, a)
    store(pointer, at + LANES, b)
    store(pointer, at + 2 * LANES, c)
    store(pointer, at + 3 * LANES, d)
    store(pointer, at + 4 * LANES, e)


@jit_inline
def _splat5(p, i):
    return splat(p[i]), splat(p[i + 1]), splat(p[i + 2]), splat(p[i + 3]), splat(p[i + 4])


@jit_inline
def dense_forward(g, f, pooled, weights, sums):
    """Add filter `f`'s part of every class's dot product to ``sums[block][10][LANES]``."""
    for block in range(g.blocks):
        s = block * BLOCK * LANES
        a0, a1, a2, a3 = _load4(sums, s, LANES)
        a4, a5, a6, a7 = _load4(sums, s + 4 * LANES, LANES)
        a8, a9 = load(sums, s + 8 * LANES), load(sums, s + 9 * LANES)
        for v in range(g.vectors):
            x = load(pooled, (f * g.vectors + v) * LANES)
            w = ((f * g.blocks + block) * g.vectors + v) * BLOCK * LANES
            a0 = fma(x, load(weights, w), a0)
            a1 = fma(x, load(weights, w + LANES), a1)
            a2 = fma(x, load(weights, w + 2 * LANES), a2)
            a3 = fma(x, load(weights, w + 3 * LANES), a3)
            a4 = fma(x, load(weights, w + 4 * LANES), a4)
            a5 = fma(x, load(weights, w + 5 * LANES), a5)
            a6 = fma(x, load(weights, w + 6 * LANES), a6)
            a7 = fma(x, load(weights, w + 7 * LANES), a7)
            a8 = fma(x, load(weights, w + 8 * LANES), a8)
            a9 = fma(x, load(weights, w + 9 * LANES), a9)
        _store5(sums, s, a0, a1, a2, a3, a4)
        _store5(sums, s + 5 * LANES, a5, a6, a7, a8, a9)


@jit_inline
def finish_logits(g, sums, bias, logits):
    """Fold the sums of `dense_forward` to one logit a class and clear them for the next image."""
    for block in range(g.blocks):
        s = block * BLOCK * LANES
        a0, a1, a2, a3 = _load4(sums, s, LANES)
        a4, a5, a6, a7 = _load4(sums, s + 4 * LANES, LANES)
        a8, a9 = load(sums, s + 8 * LANES), load(sums, s + 9 * LANES)
        store_sums(logits, block * BLOCK, (a0, a1, a2, a3, a4, a5, a6, a7, a8, a9))
        for k in range(BLOCK):
            store(sums, s + k * LANES, splat(_ZERO))
    for k in range(0, g.padded, LANES):
        store(logits, k, load(logits, k) + load(bias, k))


@jit_inline
def _backward_pair(weights, w, x, d0, d1, grad):
    """Two classes' part of the input gradient, from the weights before their update, and the update."""
    w0, w1 = load(weights, w), load(weights, w + LANES)
    store(weights, w, fma(x, d0, w0))
    store(weights, w + LANES, fma(x, d1, w1))
    return fma(d1, w1, fma(d0, w0, grad))


@jit_inline
def dense_backward_update(g, f, pooled, delta, rate, weights, grad_pooled):
    """The gradient of filter `f`'s activations and the SGD step of their weights in one pass over the weights."""
    step = splat(-rate)
    zero = splat(_ZERO)
    for block in range(g.blocks):
        k = block * BLOCK
        d0, d1, d2, d3, d4 = _splat5(delta, k)
        d5, d6, d7, d8, d9 = _splat5(delta, k + 5)
        for v in range(g.vectors):
            x = step * load(pooled, (f * g.vectors + v) * LANES)
            w = ((f * g.blocks + block) * g.vectors + v) * BLOCK * LANES
            one = _backward_pair(weights, w, x, d0, d1, zero)
            two = _backward_pair(weights, w + 2 * LANES, x, d2, d3, zero)
            one = _backward_pair(weights, w + 4 * LANES, x, d4, d5, one)
            two = _backward_pair(weights, w + 6 * LANES, x, d6, d7, two)
            grad = _backward_pair(weights, w + 8 * LANES, x, d8, d9, one) + two
            if block > 0:
                grad = grad + load(grad_pooled, v * LANES)
            store(grad_pooled, v * LANES, grad)


@jit_inline
def dense_backward_block(g, f, count, pooled, delta, weights, grad_weights, grad):
    """Gradients of filter `f`'s dense weights and activations over `count` images.

    The activations' gradient takes the place of the activations in `pooled`; `grad` is room for one vector an image.
    """
    activations = g.filters * g.vectors
    for v in range(g.vectors):
        for block in range(g.blocks):
            w = ((f * g.blocks + block) * g.vectors + v) * BLOCK * LANES
            w0, w1, w2, w3 = _load4(weights, w, LANES)
            w4, w5, w6, w7 = _load4(weights, w + 4 * LANES, LANES)
            w8, w9 = load(weights, w + 8 * LANES), load(weights, w + 9 * LANES)
            a0, a1, a2, a3 = _load4(grad_weights, w, LANES)
            a4, a5, a6, a7 = _load4(grad_weights, w + 4 * LANES, LANES)
            a8, a9 = load(grad_weights, w + 8 * LANES), load(grad_weights, w + 9 * LANES)
            for n in range(count):
                x = load(pooled, (n * activations + f * g.vectors + v) * LANES)
                k = n * g.padded + block * BLOCK
                d0, d1, d2, d3, d4 = _splat5(delta, k)
                one = fma(d4, w4, fma(d2, w2, d0 * w0))
                two = fma(d3, w3, d1 * w1)
                a0, a1, a2, a3, a4 = (
                    fma(x, d0, a0),
                    fma(x, d1, a1),
                    fma(x, d2, a2),
                    fma(x, d3, a3),
                    fma(x, d4, a4),
                )
                d5, d6, d7, d8, d9 = _splat5(delta, k + 5)
                one = fma(d8, w8, fma(d6, w6, one))
                two = fma(d9, w9, fma(d7, w7, fma(d5, w5, two)))
                a5, a6, a7, a8, a9 = (
                    fma(x, d5, a5),
                    fma(x, d6, a6),
                    fma(x, d7, a7),
                    fma(x, d8, a8),
                    fma(x, d9, a9),
                )
                if block > 0:
                    one = one + load(grad, n * LANES)
                store(grad, n * LANES, one + two)
            _store5(grad_weights, w, a0, a1, a2, a3, a4)
            _store5(grad_weights, w + 5 * LANES, a5, a6, a7, a8, a9)
        for n in range(count):
            store(pooled, (n * activations + f * g.vectors + v) * LANES, load(grad, n * LANES))


@jit_inline
def _exp(x):
    """e**x for x <= 0, within two units in the last place: 2**n times a polynomial on [-ln 2 / 2, ln 2 / 2]."""
    lowest = splat(np.float32(-87.0))
    x = maximum(lowest, x)  # in this order a NaN stays one
    shifted = fma(x, splat(np.float32(1.4426950408889634)), splat(_ROUND))
    n = shifted - splat(_ROUND)
    r = fma(n, splat(np.float32(-0.693145751953125)), x)
    r = fma(n, splat(np.float32(-1.428606820309417e-06)), r)
    p = splat(np.float32(1 / 5040))
    p = fma(p, r, splat(np.float32(1 / 720)))
    p = fma(p, r, splat(np.float32(1 / 120)))
    p = fma(p, r, splat(np.float32(1 / 24)))
    p = fma(p, r, splat(np.float32(1 / 6)))
    p = fma(p, r, splat(_HALF))
    p = fma(p, r, splat(_ONE))
    p = fma(p, r, splat(_ONE))
    return p * power_of_two(shifted)


@jit_inline
def softmax(g, logits, probabilities):
    """Probabilities of the padded `logits` (padding: -1e30); returns the greatest logit and the sum of the exponentials."""
    top = max_lanes(load(logits, 0))
    for k in range(LANES, g.blocks * BLOCK, LANES):
        top = max(top, max_lanes(load(logits, k)))
    total = splat(_ZERO)
    for k in range(0, g.blocks * BLOCK, LANES):
        e = _exp(load(logits, k) - splat(top))
        total = total + e
        store(probabilities, k, e)
    denominator = sum_lanes(total)
    scale = splat(_ONE / denominator)
    for k in range(0, g.blocks * BLOCK, LANES):
        store(probabilities, k, load(probabilities, k) * scale)
    return top, denominator


@jit_inline
def judge(logits, label, top, denominator):
    """The loss of one image, and whether its label has the greatest logit (the first, where several have)."""
    loss = math.log(denominator) - (logits[label] - top)
    best = 0
    while logits[best] < top:
        best += 1
    return loss, best == label
