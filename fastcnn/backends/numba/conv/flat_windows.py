"""Pooling windows that show one and the same pixel all over: whatever the filters, one of them tells what all give.

The background of drawings and scans is such: 35 of 100 windows of 5x5 filters over MNIST's images show nothing else.
Flat is a window all of whose pixels have the bits of the image's first. Their sums are the same to the last bit:
whether they are found changes no result of the forward pass. For 5x5x1 to 24 filters on MNIST that takes 0.77 of the
time forward and 0.90 backward; on noise 1.02 of it.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from fastcnn.backends.numba.jit import jit_inline, jit_part
from fastcnn.backends.numba.lanes import bits_of, integers
from fastcnn.backends.numba.packing import padded_width
from fastcnn.backends.numba.simd import (
    LANES,
    all_same,
    first_lanes,
    load,
    load_where,
    shifted,
)

#: Up to how many channels of the images looking for flat windows pays: of many, seldom all are the same.
_CHANNELS = 4

#: Floats that are told of in one whole number: as many, and one more, may be beside each other in a window.
_BITS = 32

#: Behind an image without flat windows only one in so many is looked at: photographs take no longer for it.
_SELDOM = 8

Reach = tuple[int, int]

_padded = jit_inline(padded_width)


def reach_of(kernel: tuple[int, ...]) -> Reach:
    """Return the rows of a pooling window's pixels and the floats of one, or nothing where looking does not pay."""
    height, width, channels = kernel[:3]
    rows, run = height + 1, (width + 1) * channels
    return (rows, run) if channels <= _CHANNELS and run <= _BITS + 1 else (0, 0)


def room_for_lists(maxima: int, row: int, reach: Reach) -> int:
    """Return the floats that `list_windows` works in."""
    return 2 * padded_width(maxima + 2) + padded_width(row + LANES) + padded_width(row // _BITS + 2)


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
def _find_others(image, row, reach, pattern, others):
    """Tell for each float of a row, a bit each, whether in the window that begins there one is not the pattern's."""
    words = (row + _BITS - 1) // _BITS
    for word in range(words):
        found, first = np.int64(0), word * _BITS
        for k in range(first, min(first + _BITS, row), LANES):
            here, pixel = first_lanes(row - k), load(pattern, k)
            same = all_same((load_where(image, k, here),), (pixel,))
            for i in range(1, reach[0]):
                same = same & all_same((load_where(image, i * row + k, here),), (pixel,))
            found |= bits_of(here & ~same) << (k - first)
        others[word] = np.int32(found)
    others[words] = np.int32(0)
    for word in range(words):
        found = np.int64(others[word + 1]) << _BITS | np.int64(np.uint32(others[word]))
        seen = 1
        while 2 * seen < reach[1]:
            found |= found >> seen
            seen *= 2
        others[word] = np.int32(found | found >> (reach[1] - seen))


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
    maxima = size[0] * size[1]
    chosen, flat = lists_at(work, maxima)
    pattern = shifted(work, 2 * _padded(maxima + 2))
    others = integers(shifted(pattern, _padded(row + LANES)))
    count, flats = 0, 0
    if not looked:
        for p in range(maxima):
            chosen[p] = np.int32(p)
        return maxima, flats
    for c in range(channels):
        for k in range(c, row, channels):
            pattern[k] = first[c]
    for i in range(size[0]):
        _find_others(shifted(image, 2 * i * row), row, reach, pattern, others)
        for j in range(size[1]):
            p, at = np.int32(i * size[1] + j), 2 * channels * j
            other = np.intp(others[at // _BITS] >> at % _BITS & 1)
            chosen[count], flat[flats] = p, p
            count += other
            flats += 1 - other
    if flats > 0:
        chosen[count] = flat[0]
        count += 1
    return count, flats
