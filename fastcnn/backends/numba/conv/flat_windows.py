"""Pooling windows that show one and the same pixel all over: whatever the filters, one of them tells what all give.

The background of drawings and scans is such: 35 of 100 windows of 5x5 filters over MNIST's images show nothing else.
Flat is a window all of whose pixels have the bits of the image's first. Their sums are the same to the last bit:
whether they are found changes no result of the forward pass. For 5x5x1 to 24 filters on MNIST that takes 0.78 of the
time forward and 0.86 backward; on noise 1.02 of it.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from fastcnn.backends.numba.jit import jit_inline, jit_part
from fastcnn.backends.numba.lanes import integers
from fastcnn.backends.numba.packing import padded_width
from fastcnn.backends.numba.simd import (
    LANES,
    all_same,
    first_lanes,
    load,
    load_where,
    maximum,
    select,
    shifted,
    splat,
    store,
)

#: Up to how many channels of the images looking for flat windows pays: of many, seldom all are the same.
_CHANNELS = 4

#: Behind an image without flat windows only one in so many is looked at: photographs take no longer for it.
_SELDOM = 8

Reach = tuple[int, int]

_padded = jit_inline(padded_width)


def reach_of(kernel: tuple[int, ...]) -> Reach:
    """Return the rows of a pooling window's pixels and the floats of one, or nothing where looking does not pay."""
    height, width, channels = kernel[:3]
    return (height + 1, (width + 1) * channels) if channels <= _CHANNELS else (0, 0)


def room_for_lists(maxima: int, row: int, reach: Reach) -> int:
    """Return the floats that `list_windows` works in."""
    return 2 * padded_width(maxima + 2) + 3 * padded_width(row + reach[1] + LANES)


@functools.lru_cache(maxsize=256)
def window_starts(height: int, width: int, frame_width: int, channels: int) -> NDArray[np.int64]:
    """Return where in the frame each of the pooling windows (height, width) begins."""
    return (2 * channels * (frame_width * np.arange(height)[:, None] + np.arange(width))).ravel()


@jit_inline
def lists_at(work, maxima):
    """The two lists that `list_windows` fills."""
    return integers(work), integers(shifted(work, _padded(maxima + 2)))


@jit_inline
def looks(reach, flats, n):
    """Whether to look for flat windows in image `n`: seldom where the image before it had no `flats`."""
    return reach[0] > 0 and (flats > 0 or n % _SELDOM == 0)


@jit_part
def _find_others(image, row, reach, pattern, differing, seen):
    """Tell for each float of a row whether, in the window that begins there, one is not the pattern's."""
    zero, one = splat(np.float32(0)), splat(np.float32(1))
    for k in range(0, row, LANES):
        here, pixel = first_lanes(row - k), load(pattern, k)
        same = all_same((load_where(image, k, here),), (pixel,))
        for i in range(1, reach[0]):
            same = same & all_same((load_where(image, i * row + k, here),), (pixel,))
        store(differing, k, select(same, zero, one))
    for k in range(0, row, LANES):
        other = load(differing, k)
        for j in range(1, reach[1]):
            other = maximum(other, load(differing, k + j))
        store(seen, k, other)


@jit_part
def list_windows(image, size, row, channels, reach, first, looked, work):
    """List the pooling windows of an image: all that are not flat and the first that is; and all that are.

    Args:
        image: in its frame, whose rows are `row` floats.
        size: rows and columns of pooling windows.
        reach: from `reach_of`.
        first: the image's first pixel.
        looked: whether to look for flat windows; otherwise none are.
        work: room for the lists and more.

    Returns:
        How many are in the first list, and how many in the second, whose first is the last of the first list.
    """
    maxima, length = size[0] * size[1], _padded(row + reach[1] + LANES)
    chosen, flat = lists_at(work, maxima)
    pattern = shifted(work, 2 * _padded(maxima + 2))
    differing, seen = shifted(pattern, length), shifted(pattern, 2 * length)
    count, flats = 0, 0
    if not looked:
        for p in range(maxima):
            chosen[p] = np.int32(p)
        return maxima, flats
    for c in range(channels):
        for k in range(c, row, channels):
            pattern[k] = first[c]
    for i in range(size[0]):
        _find_others(shifted(image, 2 * i * row), row, reach, pattern, differing, seen)
        for j in range(size[1]):
            p, other = np.int32(i * size[1] + j), np.intp(seen[2 * channels * j] > 0)
            chosen[count], flat[flats] = p, p
            count += other
            flats += 1 - other
    if flats > 0:
        chosen[count] = flat[0]
        count += 1
    return count, flats
