"""Both gradients of a pooled convolution, summed over the gradients that are not zero.

Those are listed filter by filter, for as many rows of an image as stay in the cache, or for several small images: for
two of 12x12x24, 0.92 of the time of one by one. Then a group of vectors of a filter's taps, and as many of its
gradient, stay in registers while its list goes by: for each entry the window of the image is added to the filter's
gradient, and the filter to the window of the image's.

What costs is memory, each vector of each entry is two loads and a store, and where the lists end, which the processor
cannot guess. Where a window's rows are not whole vectors, shorter ones are quicker (`pooled_vectors`). (Summing the
image's gradient over the filters of a pooling window first, to write less, was slower: there are few in each. Filling
up channels to whole vectors, so that none straddles two cache lines, gained nothing.)
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from fastcnn.backends.numba.conv.kernels import ask_for_share, place, take_out
from fastcnn.backends.numba.conv.operations import Frame, chunks_of
from fastcnn.backends.numba.conv.pooled_vectors import (
    SHORT,
    SHORT_LANES,
    SIX,
    add_to_window,
    add_window,
    load_group,
    load_offsets,
    passing,
    whole,
)
from fastcnn.backends.numba.jit import jit, jit_part, parallel_jit
from fastcnn.backends.numba.lanes import copy_transposed, count_lanes, integers, store_lanes
from fastcnn.backends.numba.packing import FloatArray, Workspace, float32, padded_width
from fastcnn.backends.numba.runs import store_run
from fastcnn.backends.numba.simd import (
    LANES,
    above,
    address,
    equal,
    first_lanes,
    fma,
    load,
    load_where,
    select,
    shifted,
    splat,
    store,
)

#: Bytes of the image and of its gradient that one set of lists reaches over.
_STRIP_BYTES = 56_000

#: Chunks of samples at most: 32 of them, with few samples each, spend 0.05 of the time on their own sums.
_CHUNKS = 16

_NOTHING = np.zeros((0, 0, 0, 0), np.float32)


def gradients(
    grad_y: FloatArray,
    winners: NDArray[np.uint8],
    x: FloatArray,
    filters: NDArray[Any],
    frame: Frame,
    wants_input: bool,
    workspace: Workspace,
) -> tuple[FloatArray | None, FloatArray, FloatArray]:
    """Return what `pooled.conv_pool_backward` does; `frame` is where the images lie in their margin."""
    count, pooled = filters.shape[3], grad_y.shape[1:3]
    channels, row = x.shape[3], frame[1] * x.shape[3]
    offsets, taps, lanes = _window(filters.shape[:3], row)
    direct = frame == (*x.shape[1:3], 0, 0) and filters.shape[1] * channels % lanes == 0
    strip = min(pooled[0], max(1, _STRIP_BYTES // (4 * row * np.float32().nbytes)))
    together = max(1, _STRIP_BYTES // (2 * x[0].nbytes)) if direct and strip == pooled[0] else 1
    starts = _starts(together, strip, pooled[1], (frame[0] * row, row, channels))
    chunks = min(_CHUNKS, chunks_of(len(x), count * taps.size))
    width, listed = padded_width(count), padded_width(starts.size) + LANES
    # In place where a window's rows are whole vectors; else in a copy that has room behind the last of them.
    image = 0 if direct else padded_width(frame[0] * row + LANES)
    size = 2 * (image + LANES * LANES + width * listed)
    scratch = workspace.array("lists", (chunks, size))
    partial_filters = workspace.array("partial_filters", (chunks, len(taps), count, taps.shape[1]))
    partial_bias = workspace.array("partial_bias", (chunks, width))
    grouped = workspace.array("grouped", partial_filters.shape[1:])
    _group(float32(filters).reshape(-1, count), taps, grouped)
    grad_x = workspace.array("grad_x", x.shape) if wants_input else None
    grad_filters = np.empty(filters.shape, np.float32)
    _backward(
        grad_y,
        winners,
        x,
        frame,
        image,
        grouped,
        offsets,
        taps,
        starts,
        scratch,
        _NOTHING if grad_x is None else grad_x,
        partial_filters,
        partial_bias,
        grad_filters,
    )
    return grad_x, grad_filters, partial_bias.sum(axis=0)[:count]


@functools.lru_cache(maxsize=256)
def _window(kernel: tuple[int, int, int], row: int) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Return how a window of `kernel` (height, width, C) is cut into groups of vectors, each of how many floats.

    That is: where in a window each vector begins, for images of `row` floats a row (groups, vectors of one); and which
    tap each of their lanes is, -1 for none (groups, lanes in whole vectors). The first group is filled up with vectors
    of no taps, all in the place of the first that has some: `add_to_window` writes that one last.
    """
    height, run = kernel[0], kernel[1] * kernel[2]
    ways = (len(SIX), LANES), (len(SHORT), SHORT_LANES)
    counts = [-(-height * -(-run // lanes) // group) for group, lanes in ways]
    groups, (group, lanes) = min(zip(counts, ways, strict=True), key=lambda way: way[0] * math.prod(way[1]))
    i, k = np.meshgrid(np.arange(height), np.arange(0, run, lanes), indexing="ij")
    within = k.reshape(-1, 1) + np.arange(lanes)
    taps = np.where(within < run, i.reshape(-1, 1) * run + within, -1)
    none = groups * group - len(taps)
    offsets = np.pad((i * row + k).ravel(), (none, 0), mode="edge").reshape(groups, group)
    taps = np.pad(taps, ((none, 0), (0, 0)), constant_values=-1).reshape(groups, group * lanes)
    return offsets, np.pad(taps, ((0, 0), (0, -taps.shape[1] % LANES)), constant_values=-1), lanes


@functools.lru_cache(maxsize=256)
def _starts(images: int, strip: int, width: int, steps: tuple[int, int, int]) -> FloatArray:
    """Return where the first window of each maximum begins (images, strip, width).

    `steps` are the floats from one image, row and pixel to the next. A vector may be read behind the last.
    """
    n, i, j = np.ix_(np.arange(images), 2 * np.arange(strip), 2 * np.arange(width))
    starts = (n * steps[0] + i * steps[1] + j * steps[2]).astype(np.float32)
    return np.pad(starts.ravel(), (0, LANES))[: starts.size].reshape(starts.shape)


@jit
def _group(filters, taps, grouped):
    """Put filters (taps, F) together as `taps` says: (groups, F, lanes of a group)."""
    groups, count, length = grouped.shape
    for group in range(groups):
        for k in range(length):
            tap = taps[group, k]
            for f in range(count):
                grouped[group, f, k] = filters[tap, f] if tap >= 0 else np.float32(0)


@jit_part
def _list(grad, winners, pixels, count, stride, steps, starts, squares, values, at, room, grad_b):
    """List the gradients (pixels, count) that pass and are not zero filter by filter, and add them to `grad_b`.

    For filter f: ``values[f * room + i]``, and in ``at`` where their windows begin, -1 behind the last (computed in
    floats, exact up to 2**24; kept as integers). Squares of pixels times filters are transposed,
    and then the gradients of each filter moved together: 0.4 of the time of a loop over single ones without branches.
    """
    row, channels = splat(np.float32(steps[0])), splat(np.float32(steps[1]))
    zero, one, two = splat(np.float32(0)), splat(np.float32(1)), splat(np.float32(2))
    length = (pixels + LANES - 1) // LANES * LANES
    corners = shifted(squares, LANES * LANES)
    for f in range(0, count, LANES):
        there, total = first_lanes(count - f), load(grad_b, f)
        for first in range(0, length, LANES):
            for p in range(first, first + LANES):
                value, corner = zero, zero
                if p < pixels:
                    value = load_where(grad, p * count + f, there & passing(winners, p * stride + f))
                    total = total + value
                    winner = load(winners, p * stride + f)
                    corner = select(above(winner, one), fma(winner - two, channels, row), winner * channels)
                store(squares, (p - first) * LANES, value)
                store(corners, (p - first) * LANES, corner)
            copy_transposed(shifted(values, f * room + first), room, squares, LANES)
            copy_transposed(shifted(at, f * room + first), room, corners, LANES)
        store(grad_b, f, total)
    for f in range(count):
        found, row_values, row_at = 0, shifted(values, f * room), shifted(at, f * room)
        for p in range(0, length, LANES):
            value, window = load(row_values, p), load(row_at, p) + load(starts, p)
            there = ~equal(value, zero)
            store_lanes(row_values, found, there, value)
            store_lanes(row_at, found, there, whole(window))
            found += count_lanes(there)
        integers(row_at)[found] = np.int32(-1)


@jit_part
def _add_windows(size, image, grad_image, wanted, w, grad_w, offsets, at, values):
    """Go through one filter's list with a group of vectors of the filter at `w` and of its gradient at `grad_w`.

    The group has as many vectors as the tuple `size` has elements.
    """
    places = load_offsets(offsets, size)
    m, sums = 0, load_group(grad_w, places)
    if wanted:
        taps = load_group(w, places)
        while at[m] >= 0:
            value, window = splat(values[m]), np.intp(at[m])
            sums = add_window(value, shifted(image, window), places, sums)
            add_to_window(value, taps, shifted(grad_image, window), places)
            m += 1
    else:
        while at[m] >= 0:
            sums = add_window(splat(values[m]), shifted(image, np.intp(at[m])), places, sums)
            m += 1
    store_run(grad_w, sums)


@jit
def _add_up(partial, length, chunks, size, taps, count, grad):
    """Sum a group of one filter over the chunks, which are `size` floats apart, and put it where `taps` says."""
    for k in range(0, length, LANES):
        total = load(partial, k)
        for chunk in range(1, chunks):
            total = total + load(partial, chunk * size + k)
        store(partial, k, total)
    for k in range(length):
        if taps[k] >= 0:
            grad[taps[k] * count] = partial[k]


@parallel_jit
def _backward(
    grad_y,
    winners,
    x,
    frame,
    room_for_image,
    grouped,
    offsets,
    taps,
    starts,
    scratch,
    grad_x,
    partial_filters,
    partial_bias,
    grad_filters,
):
    """Fill `grad_filters`, each chunk's `partial_bias`, and `grad_x` unless it is empty.

    `offsets` and `taps` are from `_window`; `grouped` are the filters in that order, (groups, F, lanes of a group).
    Images are worked on in place, or in copies where `scratch` has room for them.
    """
    samples, height, width, channels = x.shape
    _, pooled_height, pooled_width, count = grad_y.shape
    chunks, groups, _, length = partial_filters.shape
    stride, padded = winners.shape[3], partial_bias.shape[1]
    together, strip, _ = starts.shape
    size, row = height * width * channels, frame[1] * channels
    room = (starts.size + LANES - 1) // LANES * LANES + LANES
    wanted = grad_x.size > 0
    direct = room_for_image == 0
    pixels, steps = pooled_height * pooled_width, groups * count
    share, grad_share = together * size // steps + 1, together * pixels * count // steps + 1
    won_share = together * pixels * stride // steps + 1
    for chunk_index in prange(chunks):
        chunk = np.intp(chunk_index)
        work = shifted(address(scratch), chunk * scratch.shape[1])
        grad_work = shifted(work, room_for_image)
        squares = shifted(grad_work, room_for_image)
        values = shifted(squares, 2 * LANES * LANES)
        at = shifted(values, padded * room)
        grad_b = shifted(address(partial_bias), chunk * padded)
        grad_w = shifted(address(partial_filters), chunk * groups * count * length)
        for k in range(padded):
            grad_b[k] = np.float32(0)
        for k in range(groups * count * length):
            grad_w[k] = np.float32(0)
        end = samples * (chunk + 1) // chunks
        for n in range(samples * chunk // chunks, end, together):
            images, ahead = min(together, end - n), n + together
            image = shifted(address(x), n * size)
            grad_image = shifted(address(grad_x), n * size if wanted else 0)
            if not direct:
                place(image, height, width, channels, frame, work)
                image, grad_image = work, grad_work
            if wanted:
                for k in range(images * frame[0] * row):
                    grad_image[k] = np.float32(0)
            for top in range(0, images * pooled_height, together * strip):
                p = (n * pooled_height + top) * pooled_width
                _list(
                    shifted(address(grad_y), p * count),
                    shifted(address(winners), p * stride),
                    min(together * strip, images * pooled_height - top) * pooled_width,
                    count,
                    stride,
                    (row, channels),
                    address(starts),
                    squares,
                    values,
                    at,
                    room,
                    grad_b,
                )
                for group in range(groups):
                    for f in range(count):
                        if top == 0:
                            step = group * count + f
                            ask_for_share(address(x), ahead * size, share, step)
                            if wanted:
                                ask_for_share(address(grad_x), ahead * size, share, step)
                            ask_for_share(address(grad_y), ahead * pixels * count, grad_share, step)
                            ask_for_share(address(winners), ahead * pixels * stride, won_share, step)
                        if integers(at)[f * room] >= 0:
                            listed = (
                                shifted(image, 2 * top * row),
                                shifted(grad_image, 2 * top * row),
                                wanted,
                                shifted(address(grouped), (group * count + f) * length),
                                shifted(grad_w, (group * count + f) * length),
                                shifted(address(offsets), group * offsets.shape[1]),
                                integers(shifted(at, f * room)),
                                shifted(values, f * room),
                            )
                            if offsets.shape[1] == len(SIX):  # a choice here: by type, each would compile all of this
                                _add_windows(SIX, *listed)
                            else:
                                _add_windows(SHORT, *listed)
            if wanted and not direct:
                take_out(grad_work, height, width, channels, frame, shifted(address(grad_x), n * size))
    for index in prange(groups * count):
        number = np.intp(index)
        group, f = number // count, number % count
        _add_up(
            shifted(address(partial_filters), number * length),
            length,
            chunks,
            groups * count * length,
            shifted(address(taps), group * length),
            count,
            shifted(address(grad_filters), f),
        )
