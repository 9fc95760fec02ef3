"""The orders in which kernels want the filters of a convolution, (kernel height, kernel width, C, F) everywhere else.

* In panels: a vector of filters side by side, tap after tap. For the gradient of the images at stride 1 they are turned
  by 180 degrees, and channels and filters change places: with those it is a convolution itself.
* In groups: the rows of one filter, for kernels that add multiples of them to windows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from fastcnn.backends.numba.jit import jit_part, parallel_jit
from fastcnn.backends.numba.packing import FloatArray, aligned_empty, float32, padded_width
from fastcnn.backends.numba.simd import LANES, address, load, shifted, store


def packed_filters(filters: NDArray[Any], turned: bool = False) -> FloatArray:
    """Return the filters in panels (vectors, taps * C, LANES), filled up with zeros to whole vectors.

    With `turned`, tap t of filter f for channel c is tap ``taps - 1 - t`` of filter c for channel f.
    """
    kernel_height, kernel_width, channels, count = filters.shape
    taps = kernel_height * kernel_width
    inputs, outputs = (count, channels) if turned else (channels, count)
    packed = aligned_empty((padded_width(outputs) // LANES, taps * inputs, LANES))
    _pack(float32(filters).reshape(taps, channels, count), turned, packed)
    return packed


@parallel_jit
def _pack(filters, turned, packed):
    taps, channels, count = filters.shape
    for panel in prange(packed.shape[0]):
        to = shifted(address(packed), np.intp(panel) * packed.shape[1] * LANES)
        _pack_panel(address(filters), taps, channels, count, turned, np.intp(panel), to)


@jit_part
def _pack_panel(filters, taps, channels, count, turned, panel, to):
    """Write one panel of filters (taps, C, F), as `packed_filters` orders them."""
    first = panel * LANES
    if turned:
        for t in range(taps):
            end = shifted(to, (taps - 1 - t) * count * LANES)
            for f in range(0, count, LANES):  # blocks as wide as high: a cache line of either side serves all of one
                for lane in range(LANES):
                    at = shifted(filters, (t * channels + first + lane) * count)
                    for k in range(f, min(f + LANES, count)):
                        end[k * LANES + lane] = at[k] if first + lane < channels else np.float32(0)
    elif first + LANES <= count:
        for k in range(taps * channels):
            store(to, k * LANES, load(filters, k * count + first))
    else:
        for k in range(taps * channels):
            for lane in range(LANES):
                to[k * LANES + lane] = filters[k * count + first + lane] if first + lane < count else np.float32(0)


def grouped_filters(filters: NDArray[Any], row: int, group: int) -> tuple[FloatArray, NDArray[np.int64]]:
    """Return each filter's rows in whole vectors, `group` of these together, and where in a window each vector is.

    The first group is filled up with copies of its first vector. Kernels read all vectors of a group before they
    write the first, and write them in order, so that the copies are written over.

    Args:
        filters: (kernel height, kernel width, C, F).
        row: floats from one row of the images to the next.
        group: vectors of a group.

    Returns:
        The vectors (groups, F, group * LANES) and their offsets (groups * group,).
    """
    kernel_height, kernel_width, channels, count = filters.shape
    run = kernel_width * channels
    vectors = padded_width(run) // LANES
    order = np.concatenate([[0] * (-kernel_height * vectors % group), np.arange(kernel_height * vectors)]).astype(int)
    rows = np.zeros((count, kernel_height, vectors * LANES), np.float32)
    rows[:, :, :run] = float32(filters).reshape(kernel_height, run, count).transpose(2, 0, 1)
    grouped = rows.reshape(count, -1, LANES)[:, order].reshape(count, -1, group * LANES).swapaxes(0, 1)
    return np.ascontiguousarray(grouped), (order // vectors * row + order % vectors * LANES).astype(np.int64)
