"""From an image to what 3x3 filters read: its pooling windows in the transform domain, but for the flat ones.

Each window's 4x4 pixels are brought into the domain of Winograd's F(2x2, 3x3) (Lavin and Gray, "Fast Algorithms for
Convolutional Neural Networks", 2016), once for all filters.

More than half of MNIST's windows (56 in a hundred) show nothing but background: sixteen pixels that are the image's
first. Whatever the filter, all their outputs are one number, computed once; and their gradients for the filter are one
number times the sum of theirs. So convolution and its gradient run over the other windows, moved together, which takes
5 vectors an image instead of 11: a step fell from 2.95 to 2.4 microseconds, inference from 1.5 to 1.05 (where nothing
is flat, as in noise, both lose 5 to 8 in a hundred). Without AVX-512, moving lanes would cost more than it saves: every
window counts as live there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastcnn.backends.numba.fused.geometry import Geometry, row_of, task_rows
from fastcnn.backends.numba.jit import jit_inline
from fastcnn.backends.numba.lanes import (
    COMPRESSES,
    compress,
    count_ones,
    expand,
    load_columns,
    other_columns,
    store_even_numbers,
)
from fastcnn.backends.numba.simd import (
    LANES,
    all_same,
    first_lanes,
    fma,
    load,
    load_mask,
    select,
    shifted,
    splat,
    store,
    store_mask,
)

_ZERO = np.float32(0.0)
_FOUR = np.float32(4.0)


class Windows(NamedTuple):
    """The windows of one image (or, in a workspace, of several): those that are not flat are called live."""

    transformed: NDArray[np.float32]  # the live windows', [vector][4][4][LANES], the last row and column negated
    repeats: NDArray[np.uint16]  # two masks a vector of live windows, see `transform_windows`
    live: NDArray[np.uint16]  # a mask for each vector of windows
    starts: NDArray[np.int32]  # how many windows live before each vector, and last of all how many live
    flat: NDArray[np.float32]  # the one element of a flat window's transform that is not zero


def windows_workspace(g: Geometry, tasks: int, images: int) -> Windows:
    """Room for the windows of `images` images: one row a task."""
    return Windows(
        transformed=task_rows(tasks, images * 16 * g.vectors * LANES),
        repeats=task_rows(tasks, images * 2 * g.vectors, np.uint16),
        live=task_rows(tasks, images * g.vectors, np.uint16),
        starts=task_rows(tasks, images * (g.vectors + 1), np.int32),
        flat=task_rows(tasks, images),
    )


@jit_inline
def windows_of_task(windows, task):
    """Pointers to one row of a workspace."""
    return Windows(
        row_of(windows.transformed, task),
        row_of(windows.repeats, task),
        row_of(windows.live, task),
        row_of(windows.starts, task),
        row_of(windows.flat, task),
    )


@jit_inline
def windows_of_image(g, windows, n):
    """Pointers to the windows of image `n` of a row; `windows` is any tuple of pointers with the same names."""
    return Windows(
        shifted(windows.transformed, n * 16 * g.vectors * LANES),
        shifted(windows.repeats, n * 2 * g.vectors),
        shifted(windows.live, n * g.vectors),
        shifted(windows.starts, n * (g.vectors + 1)),
        shifted(windows.flat, n),
    )


@jit_inline
def live_vectors(g, windows):
    """How many vectors the live windows fill."""
    return (windows.starts[g.vectors] + LANES - 1) // LANES


@jit_inline
def find_windows(g, image, windows, offsets):
    """Find out which windows live, and at which pixel of `image` each of those begins."""
    count = 0
    if COMPRESSES:
        bits = waiting = v = 0
        windows.starts[0] = np.int32(0)
        for i in range(g.pooled_height):
            for j in range(0, g.pooled_width, 15):  # windows of which 32 columns hold the pixels
                many = min(15, g.pooled_width - j)
                at = 2 * (i * g.width + j)
                columns = other_columns(image, at, g.width, image[0])
                live = (columns | columns >> 1) & ((1 << many) - 1)
                store_even_numbers(offsets, count, at, live)
                count += count_ones(live)
                bits |= live << waiting
                waiting += many
                if waiting >= LANES:
                    windows.live[v] = np.uint16(bits & (1 << LANES) - 1)
                    bits >>= LANES
                    waiting -= LANES
                    v += 1
                    windows.starts[v] = np.int32(count - count_ones(bits))
        if waiting > 0:
            windows.live[v] = np.uint16(bits)
        windows.starts[g.vectors] = np.int32(count)
    else:
        for i in range(g.pooled_height):
            for j in range(g.pooled_width):
                offsets[count] = np.int32(2 * (i * g.width + j))
                count += 1
        windows.starts[g.vectors] = np.int32(count)
    for n in range(count, -(-count // LANES) * LANES):
        offsets[n] = np.int32(0)


@jit_inline
def _row(image, offsets, at, more, scale, offset):
    """The four columns of one row of pixels of LANES windows."""
    a, b, c, d = load_columns(image, offsets, at, more)
    return fma(a, scale, offset), fma(b, scale, offset), fma(c, scale, offset), fma(d, scale, offset)


@jit_inline
def transform_windows(g, image, scaling, offsets, windows):
    """Scale the pixels of the live windows and transform them.

    `repeats` receives two masks a vector: where the window's two outputs on the diagonal see the same nine pixels, and
    where those on the other diagonal do. Their sums of products are equal, and must be so to the last bit, or a tie
    would be lost; in the transform domain rounding could part them. (For neighbours in a row or column it can't: what
    differs between them is multiplied by exact zeros.)
    """
    scale, offset = splat(scaling[0]), splat(scaling[1])
    windows.flat[0] = _FOUR * (np.float32(image[0]) * scaling[0] + scaling[1])
    for v in range(live_vectors(g, windows)):
        x00, x01, x02, x03 = _row(image, offsets, v * LANES, 0, scale, offset)
        x10, x11, x12, x13 = _row(image, offsets, v * LANES, g.width, scale, offset)
        x20, x21, x22, x23 = _row(image, offsets, v * LANES, 2 * g.width, scale, offset)
        x30, x31, x32, x33 = _row(image, offsets, v * LANES, 3 * g.width, scale, offset)
        upper_left = (x00, x01, x02, x10, x11, x12, x20, x21, x22)
        upper_right = (x01, x02, x03, x11, x12, x13, x21, x22, x23)
        lower_left = (x10, x11, x12, x20, x21, x22, x30, x31, x32)
        lower_right = (x11, x12, x13, x21, x22, x23, x31, x32, x33)
        store_mask(windows.repeats, 2 * v, all_same(upper_left, lower_right))
        store_mask(windows.repeats, 2 * v + 1, all_same(upper_right, lower_left))
        a00, a10, a20, a30 = _transform(x00, x10, x20, x30)
        a01, a11, a21, a31 = _transform(x01, x11, x21, x31)
        a02, a12, a22, a32 = _transform(x02, x12, x22, x32)
        a03, a13, a23, a33 = _transform(x03, x13, x23, x33)
        at = 16 * v * LANES
        _transform_row(windows.transformed, at, a00, a01, a02, a03)
        _transform_row(windows.transformed, at + 4 * LANES, a10, a11, a12, a13)
        _transform_row(windows.transformed, at + 8 * LANES, a20, a21, a22, a23)
        _transform_row(windows.transformed, at + 12 * LANES, a30, a31, a32, a33)


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
def spread_tops(g, windows, tops, pooled):
    """Put the pooled values of one filter, live windows first, flat ones' behind, where each window has its place."""
    if COMPRESSES:
        flat = load(tops, g.vectors * LANES)
        for v in range(g.vectors):
            live = load(tops, np.intp(windows.starts[v]))
            store(pooled, v * LANES, expand(load_mask(windows.live, v), live, flat))
    clear_padding(g, pooled)


@jit_inline
def clear_padding(g, pooled):
    """The lanes behind a filter's last window belong to no weight: zero, so that they never count."""
    at = (g.vectors - 1) * LANES
    windows = first_lanes(g.pooled_height * g.pooled_width - at)
    store(pooled, at, select(windows, load(pooled, at), splat(_ZERO)))


@jit_inline
def collect_gradient(g, windows, grad, room):
    """The gradients of the live windows moved together, zeros behind them; the flat windows' sum comes last."""
    if not COMPRESSES:
        return grad
    flat = splat(_ZERO)
    for v in range(g.vectors):
        value, live = load(grad, v * LANES), load_mask(windows.live, v)
        store(room, np.intp(windows.starts[v]), compress(live, value))
        flat = flat + select(live, splat(_ZERO), value)
    store(room, np.intp(windows.starts[g.vectors]), splat(_ZERO))
    store(room, (g.vectors + 1) * LANES, flat)
    return room
