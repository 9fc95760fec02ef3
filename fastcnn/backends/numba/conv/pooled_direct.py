"""Convolution, ReLU where wanted, and 2x2 max-pooling for any filters: the plain way, nothing transformed.

Eight pixels, which are two pooling windows, times a vector of filters stay in registers while the taps go by, as in
`kernels.convolve`; the four pixels of a window leave the registers as one maximum. Filters that fill half of the
last vector or less (8 of 24 where a vector is 16) are multiplied for two neighbouring pixels at once, beside the whole
vector before them: each filter is there twice, and the two pixels, loaded together, again and again. For 5x5x1 to 24
filters that takes 0.83 of the time on Zen 4.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from fastcnn.backends.numba.conv.filters import packed_filters
from fastcnn.backends.numba.conv.flat_windows import (
    list_windows,
    lists_at,
    looks,
    reach_of,
    room_for_lists,
    window_starts,
)
from fastcnn.backends.numba.conv.kernels import ask_for_share, fills, place, put_pooled, sums
from fastcnn.backends.numba.conv.operations import CHUNKS, Frame, margin, taps_of
from fastcnn.backends.numba.conv.pooled_vectors import copy_half, splat_two, store_pairs
from fastcnn.backends.numba.jit import jit_inline, jit_part, parallel_jit
from fastcnn.backends.numba.lanes import evens, odds
from fastcnn.backends.numba.packing import FloatArray, Workspace, padded_width
from fastcnn.backends.numba.simd import (
    LANES,
    address,
    first_lanes,
    fma,
    load,
    load_where,
    shifted,
    splat,
    store_bytes,
    store_where,
)

#: Floats of half a vector.
HALF = LANES // 2


def _fills_half(count: int) -> bool:
    """Whether the last of several vectors of filters is at most half full."""
    return count > LANES and 0 < count % LANES <= HALF


_has_half = jit_inline(_fills_half)


@jit_inline
def _sums_with_half(windows, offsets, step, taps, w, next_w, start, next_start):
    """As `sums`, and those of half a vector of filters behind, which lie at `next_w` twice each, side by side.

    `windows` are where the left pixels' begin, upper and lower ones of two pooling windows; the right pixel's is one
    float further on, and the taps are `step` times their offsets. Behind the eight sums come two pairs of halves for
    each pixel of the windows: of the first and second window, left and right ones alternating.
    """
    x0, x2, x4, x6 = windows
    a0, a1, a2, a3, a4, a5, a6, a7 = start, start, start, start, start, start, start, start
    h0, h1, h2, h3 = next_start, next_start, next_start, next_start
    for t in range(taps):
        at, tap, next_tap = offsets[t] * step, load(w, t * LANES), load(next_w, t * LANES)
        a0, a1, h0 = fma(splat(x0[at]), tap, a0), fma(splat(x0[at + 1]), tap, a1), fma(splat_two(x0, at), next_tap, h0)
        a2, a3, h1 = fma(splat(x2[at]), tap, a2), fma(splat(x2[at + 1]), tap, a3), fma(splat_two(x2, at), next_tap, h1)
        a4, a5, h2 = fma(splat(x4[at]), tap, a4), fma(splat(x4[at + 1]), tap, a5), fma(splat_two(x4, at), next_tap, h2)
        a6, a7, h3 = fma(splat(x6[at]), tap, a6), fma(splat(x6[at + 1]), tap, a7), fma(splat_two(x6, at), next_tap, h3)
    return (a0, a1, a2, a3, a4, a5, a6, a7), (evens(h0, h2), odds(h0, h2), evens(h1, h3), odds(h1, h3))


@jit_inline
def _put_half(maxima, source, lanes, y, to):
    """Write `lanes` maxima, at most half a vector."""
    if lanes == HALF:
        copy_half(y, to, maxima, source)
    else:
        for lane in range(lanes):
            y[to + lane] = maxima[source + lane]


@jit_inline
def _ask(outputs, maxima, pairs, part):
    """Ask for a pair's share of the memory of the next image's maxima and winners."""
    y, winners, count, stride = outputs
    ask_for_share(y, maxima * count, maxima * count // pairs + 1, part)
    ask_for_share(winners, maxima * stride, maxima * stride // pairs + 1, part)


@jit_inline
def _pixels_of(window, channels, row):
    """Where the windows of a pooling window's four pixels begin."""
    below = shifted(window, row)
    return window, shifted(window, channels), below, shifted(below, channels)


@jit_part
def _pool_panels(image, channels, row, windows, filters, panels, least, outputs, maxima, spare):
    """Write the maxima and winners of the listed windows for panels of filters, of which the last may not be whole."""
    (chosen, there, starts), (y, winners, count, stride) = windows, outputs
    packed, (offsets, taps), bias = filters
    for m in range(0, there, 2):
        p, q = np.intp(chosen[m]), np.intp(chosen[min(m + 1, there - 1)])
        x0, x1, x2, x3 = _pixels_of(shifted(image, starts[p]), channels, row)
        x4, x5, x6, x7 = _pixels_of(shifted(image, starts[q]), channels, row)
        _ask(outputs, maxima, (there + 1) // 2, m // 2)
        for panel in range(panels):
            w, start = shifted(packed, panel * taps * LANES), load(bias, panel * LANES)
            eight = (x0, x1, x2, x3, x4, x5, x6, x7)
            a0, a1, a2, a3, b0, b1, b2, b3 = sums(eight, offsets, taps, w, start)
            out, won, lanes = shifted(y, panel * LANES), shifted(winners, panel * LANES), count - panel * LANES
            put_pooled(a0, a1, a2, a3, least, lanes, out, p * count, won, p * stride, spare)
            put_pooled(b0, b1, b2, b3, least, lanes, out, q * count, won, q * stride, spare)


@jit_part
def _pool_with_half(pairs, step, row, windows, filters, rest, least, outputs, maxima, spare):
    """As `_pool_panels`, for one whole panel and the `rest` of the next, at most half of it.

    `pairs` is an image, each of whose floats has that of the pixel right of it behind it: `step` floats each.
    """
    (chosen, there, starts), (y, winners, count, stride) = windows, outputs
    packed, (offsets, taps), bias, doubled = filters
    start, next_start = load(bias, 0), load(doubled, taps * LANES)
    for m in range(0, there, 2):
        p, q = np.intp(chosen[m]), np.intp(chosen[min(m + 1, there - 1)])
        _ask(outputs, maxima, (there + 1) // 2, m // 2)
        x0, x4 = shifted(pairs, starts[p] * step), shifted(pairs, starts[q] * step)
        four = (x0, shifted(x0, row * step), x4, shifted(x4, row * step))
        whole, halves = _sums_with_half(four, offsets, step, taps, packed, doubled, start, next_start)
        a0, a1, a2, a3, b0, b1, b2, b3 = whole
        put_pooled(a0, a1, a2, a3, least, LANES, y, p * count, winners, p * stride, spare)
        put_pooled(b0, b1, b2, b3, least, LANES, y, q * count, winners, q * stride, spare)
        a0, a1, a2, a3 = halves
        to, won = p * stride + LANES, q * stride + LANES
        put_pooled(a0, a1, a2, a3, least, LANES, spare, 0, winners, to, spare)
        _put_half(spare, 0, rest, y, p * count + LANES)
        _put_half(spare, HALF, rest, y, q * count + LANES)
        copy_half(winners, won, winners, to + HALF)


@jit_part
def _double(packed, taps, bias, doubled):
    """Write the lower half of a panel of filters and of its bias, each lane twice."""
    for t in range(taps):
        tap = load(packed, t * LANES)
        store_pairs(doubled, t * LANES, tap, tap)
    start = load(bias, 0)
    store_pairs(doubled, taps * LANES, start, start)


@jit_part
def _pair(image, length, channels, pairs):
    """Copy each float of an image, and behind it that of the pixel right of it."""
    for k in range(0, length, LANES):
        left, right = first_lanes(length - k), first_lanes(length - channels - k)
        store_pairs(pairs, 2 * k, load_where(image, k, left), load_where(image, k + channels, right))


@jit_part
def _repeat(flat, flats, count, stride, y, winners):
    """Copy the maxima and winners of the first flat window to the others."""
    for f in range(0, count, LANES):
        here, first = first_lanes(count - f), np.intp(flat[0])
        maxima, won = load_where(y, first * count + f, here), load(winners, first * stride + f)
        for m in range(1, flats):
            p = np.intp(flat[m])
            store_where(y, p * count + f, maxima, here)
            store_bytes(winners, p * stride + f, won)


def forward(
    x: FloatArray,
    filters: NDArray[Any],
    start: FloatArray,
    least: np.float32,
    frame: Frame,
    workspace: Workspace,
    y: FloatArray,
    winners: NDArray[np.uint8],
) -> None:
    """Fill `y` and `winners` as `pooled.conv_pool_forward` returns them.

    Args:
        x: images (N, H, W, C).
        filters: (kernel height, kernel width, C, F).
        start: the bias, (F,) filled up to whole vectors.
        least: what no result is less than: zero, or minus infinity.
        frame: where the images lie in their margin.
        workspace: what images are copied to.
        y, winners: what is filled.
    """
    (_, height, width, count), channels = y.shape, x.shape[3]
    packed, reach = packed_filters(filters), reach_of(filters.shape)
    room = room_for_lists(height * width, frame[1] * channels, reach)
    paired = 2 * padded_width(frame[0] * frame[1] * channels) if _fills_half(count) and channels > 1 else 0
    size = (packed.shape[1] + 3) * LANES + room + paired + margin(x, frame)
    scratch = workspace.array("forward", (min(len(x), CHUNKS), size))
    starts, offsets = window_starts(height, width, frame[1], channels), taps_of(filters.shape, frame)
    _forward(x, frame, packed, start, least, starts, offsets, reach, (room, paired), scratch, y, winners)


@parallel_jit
def _forward(x, frame, packed, bias, floor, starts, offsets, reach, rooms, scratch, y, winners):
    """Fill `y` (N, PH, PW, F) with the maxima of 2x2 windows of a convolution, none less than `floor`.

    While a core multiplies, it asks for the memory of the next image's maxima and winners.

    Args:
        x: images (N, H, W, C), put into their `frame` one by one.
        packed: the filters as `panels` cuts them, (vectors, taps, LANES); `bias` one number for each lane.
        starts: where in the frame each pooling window begins.
        offsets: where in its window each tap is.
        reach: from `reach_of`.
        rooms: the floats that `list_windows` works in and that an image in pairs takes.
        scratch: a row for each chunk of samples: a vector, half a panel of filters, `rooms`, and an image in its frame.
        winners: which of the four pixels was the maximum, the first of several, or STOPPED if that is not above a
            `floor` of zero (N, PH, PW, F in whole vectors).
    """
    samples, height, width, channels = x.shape
    pooled, count, stride = y.shape[1:3], y.shape[3], winners.shape[3]
    maxima, row = pooled[0] * pooled[1], frame[1] * channels
    panels, taps, _ = packed.shape
    halved, rest = _has_half(count), count - (panels - 1) * LANES
    whole, step = panels - 2 if halved else panels, 1 if channels == 1 else 2
    at, next_at = whole * LANES, whole * LANES + LANES
    listed = (address(offsets), taps)
    least = splat(floor)
    for chunk_index in prange(scratch.shape[0]):
        chunk, chunks = np.intp(chunk_index), scratch.shape[0]
        spare = shifted(address(scratch), chunk * scratch.shape[1])
        doubled = shifted(spare, LANES)
        lists = shifted(doubled, (taps + 2) * LANES)
        pairs = shifted(lists, rooms[0])
        work = shifted(pairs, rooms[1])
        (chosen, flat), flats = lists_at(lists, maxima), 1
        if halved:
            _double(shifted(address(packed), next_at * taps), taps, shifted(address(bias), next_at), doubled)
        for n in range(samples * chunk // chunks, samples * (chunk + 1) // chunks):
            image = shifted(address(x), n * height * width * channels)
            first = image
            if not fills(frame, height, width):
                place(image, height, width, channels, frame, work)
                image = work
            looked = looks(reach, flats, n)
            there, flats = list_windows(image, pooled, row, channels, reach, first, looked, lists)
            y_n, won_n = shifted(address(y), n * maxima * count), shifted(address(winners), n * maxima * stride)
            windows = (chosen, there, address(starts))
            if whole > 0:
                filters, outputs = (address(packed), listed, address(bias)), (y_n, won_n, count, stride)
                _pool_panels(image, channels, row, windows, filters, whole, least, outputs, maxima, spare)
            if halved:
                filters = (shifted(address(packed), at * taps), listed, shifted(address(bias), at), doubled)
                outputs = (shifted(y_n, at), shifted(won_n, at), count, stride)
                if step > 1:
                    _pair(image, frame[0] * row, channels, pairs)
                    image = pairs
                _pool_with_half(image, step, row, windows, filters, rest, least, outputs, maxima, spare)
            if flats > 1:
                _repeat(flat, flats, count, stride, y_n, won_n)
