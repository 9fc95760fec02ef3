"""From an image to what the convolution reads: planes of pixels, and their transform for 3x3 filters.

The image is split into planes, ``plane[a][x][i][j] = image[2i + a][2j + x]``. The four convolution outputs of a 2x2
pooling window then need, for every tap, the same index of four planes, so that convolution and pooling run over
windows, LANES at a time, without a shuffle. Windows are numbered row by row, and a filter's windows are padded to whole
vectors.

For one channel and 3x3 filters, each window's 4x4 pixels are brought into the domain of Winograd's F(2x2, 3x3) (Lavin
and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015), once for all filters.
"""

from __future__ import annotations

from fastcnn.backends.numba.jit import jit_inline
from fastcnn.backends.numba.lanes import evens, odds, rotate
from fastcnn.backends.numba.simd import LANES, all_same, fma, load, shifted, splat, store, store_mask


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
def transform_planes(g, planes, transformed, repeats):
    """The transform of every window, ``transformed[vector][4][4][LANES]``, its last row and column negated.

    `repeats` receives two masks a vector: where the window's two outputs on the diagonal see the same nine pixels, and
    where those on the other diagonal do. Their sums of products are equal, and must be so to the last bit, or a tie
    would be lost; in the transform domain rounding could part them. (For neighbours in a row or column it can't: what
    differs between them is multiplied by exact zeros.)
    """
    for v in range(g.vectors):
        i = v * LANES
        below = i + g.pooled_width
        x00, x01, x02, x03 = load4(planes, i, g.plane)
        x10, x11, x12, x13 = load4(planes, i + 4 * g.plane, g.plane)
        x20, x21, x22, x23 = load4(planes, below, g.plane)
        x30, x31, x32, x33 = load4(planes, below + 4 * g.plane, g.plane)
        upper_left = (x00, x01, x02, x10, x11, x12, x20, x21, x22)
        upper_right = (x01, x02, x03, x11, x12, x13, x21, x22, x23)
        lower_left = (x10, x11, x12, x20, x21, x22, x30, x31, x32)
        lower_right = (x11, x12, x13, x21, x22, x23, x31, x32, x33)
        store_mask(repeats, 2 * v, all_same(upper_left, lower_right))
        store_mask(repeats, 2 * v + 1, all_same(upper_right, lower_left))
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
def _transform(a, b, c, d):
    return a - c, b + c, c - b, d - b


@jit_inline
def _transform_row(transformed, at, a, b, c, d):
    t0, t1, t2, t3 = _transform(a, b, c, d)
    store(transformed, at, t0)
    store(transformed, at + LANES, t1)
    store(transformed, at + 2 * LANES, t2)
    store(transformed, at + 3 * LANES, t3)


@jit_inline
def load4(pointer, at, step):
    return load(pointer, at), load(pointer, at + step), load(pointer, at + 2 * step), load(pointer, at + 3 * step)
