"""From an image to what the convolution reads: planes of pixels (for 3x3 filters, see `windows`).

The image is split into planes, ``plane[a][x][i][j] = image[2i + a][2j + x]``. The four convolution outputs of a 2x2
pooling window then need, for every tap, the same index of four planes, so that convolution and pooling run over
windows, LANES at a time, without a shuffle. Windows are numbered row by row, and a filter's windows are padded to whole
vectors.
"""

from __future__ import annotations

from fastcnn.backends.numba.jit import jit_inline
from fastcnn.backends.numba.lanes import evens, odds, rotate
from fastcnn.backends.numba.simd import LANES, fma, line_of, load, prefetch, shifted, splat, store


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
def fetch_ahead(g, images, index):
    """Ask the memory for image `index` of (N, H, W, C): a random order is one that it can't foresee."""
    pixels = g.height * g.width * g.channels
    for i in range(0, pixels, line_of(images)):
        prefetch(images, index * pixels + i)


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
def load4(pointer, at, step):
    return load(pointer, at), load(pointer, at + step), load(pointer, at + 2 * step), load(pointer, at + 3 * step)
