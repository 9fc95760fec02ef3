"""The filters' gradient of a pooled convolution whose windows are short and whose images need no gradient.

That is what a network's first layer is: 25 taps of a 5x5 filter on grey images. There, listing the gradients that
are not zero, as `pooled_lists` does, costs more than multiplying them all.

Lanes are filters. A tap of a pooling window is one of four numbers, of which each filter picks its winner's. Images are
copied so that each float has the one below it beside it: then one vector holds all four for a few taps, and a
permutation gives a tap to all filters. Where filters fill at most half of a vector (8 of the last of 24), its other
half is another window's. For 5x5x1 to 24 filters filters as lanes, without that, took 0.7 of the time of taps as lanes
(each filter's gradient with the window of its pixel, copied to whole vectors), and that half of the time of lists.
"""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from fastcnn.backends.numba.conv.flat_windows import (
    list_windows,
    lists_at,
    looks,
    reach_of,
    room_for_lists,
    window_starts,
)
from fastcnn.backends.numba.conv.kernels import fills, place, place_pairs
from fastcnn.backends.numba.conv.operations import Frame, chunks_of
from fastcnn.backends.numba.conv.pooled_vectors import (
    HALF,
    PAIRED,
    add_picked,
    load_offsets,
    passing,
    store_places,
)
from fastcnn.backends.numba.jit import jit_inline, jit_part, parallel_jit
from fastcnn.backends.numba.packing import FloatArray, Workspace, padded_width
from fastcnn.backends.numba.runs import load_run, store_run
from fastcnn.backends.numba.simd import LANES, address, first_lanes, line_of, load, load_where, prefetch, shifted, store

#: Taps of a row that are summed at once, one accumulator each.
_TAPS = 5

#: Rows of them at once, and as many accumulators.
_TWO, _THREE = (((0,) * rows, (0,) * (rows * _TAPS)) for rows in (2, 3))

#: Windows that are taken at once: with their image they stay in the first-level cache.
_WINDOWS = 64

#: Floats of their gradients, or of where their winners are, and room behind.
_PREPARED = (_WINDOWS + 1) * LANES

#: Up to how many taps a window is short.
_SHORT = 49


def is_short(kernel: tuple[int, ...]) -> bool:
    """Whether this module's way is the quicker for filters (height, width, C, F)."""
    height, width, channels, _ = kernel
    return 2 * (_TAPS + channels) <= PAIRED and height * width * channels <= _SHORT


def _fits_half(count: int, v: int) -> bool:
    """Whether vector `v` of filters has so few that two windows share one."""
    return count - v * LANES <= HALF


_shares = jit_inline(_fits_half)


def filter_gradient(
    grad_y: FloatArray,
    winners: NDArray[np.uint8],
    x: FloatArray,
    kernel: tuple[int, int, int],
    frame: Frame,
    workspace: Workspace,
) -> tuple[FloatArray, FloatArray]:
    """Return the gradients for the filters (taps, F) and the bias (F,), summed over the batch.

    Args:
        grad_y, winners, x, workspace: as for `pooled.conv_pool_backward`.
        kernel: (height, width, C).
        frame: where the images lie in their margin.
    """
    count, (kernel_height, run) = grad_y.shape[3], (kernel[0], kernel[1] * kernel[2])
    row, vectors, pixels = frame[1] * x.shape[3], padded_width(count) // LANES, grad_y.shape[1] * grad_y.shape[2]
    groups = -(-run // _TAPS)
    rows = max(2, kernel_height)  # the second of one is no part of the result
    offsets = (2 * row * np.arange(rows)[:, None] + 2 * _TAPS * np.arange(groups)).ravel()
    chunks = chunks_of(len(x), vectors * len(offsets) * _TAPS * LANES)
    image = padded_width(frame[0] * row + PAIRED)
    reach = reach_of((*kernel,))
    room = room_for_lists(pixels, row, reach)
    scratch = workspace.array("short", (chunks, 3 * image + 2 * _PREPARED + room))
    sums = workspace.array("short_sums", (chunks, vectors, len(offsets), _TAPS * LANES), zeros=False)
    bias = workspace.array("short_bias", (chunks, vectors * LANES), zeros=False)
    sums.fill(0)
    bias.fill(0)
    starts = 2 * window_starts(*grad_y.shape[1:3], frame[1], x.shape[3])
    _backward(grad_y, winners, x, frame, starts, offsets, reach, image, scratch, sums, bias)
    total = sums.sum(axis=0).reshape(vectors, rows, -1, LANES)[:, :kernel_height, :run].transpose(1, 2, 0, 3)
    if _fits_half(count, vectors - 1):
        total[:, :, -1, :HALF] += total[:, :, -1, HALF:]
    return total.reshape(kernel_height * run, -1)[:, :count], bias.sum(axis=0)[:count]


@jit_part
def _prepare(gradients, shape, lists, part, joined, masked, places, bias):
    """Copy a vector of gradients of some of the listed windows, zero where ReLU lets nothing pass; add them to `bias`.

    And write where in their windows the winners are, to `places`. If `joined`, two windows share a vector, and their
    places are those in both, one behind the other. The last window listed stands for all that are flat, with the sum of
    their gradients: to ReLU they are one, too.
    """
    grad, winners = gradients
    (count, lanes, stride, channels), (begin, end) = shape, part
    here, total = first_lanes(lanes), load(bias, 0)
    chosen, there, flat, flats = lists
    for m in range(begin, end):
        p, to = np.intp(chosen[m]), (m - begin) * (HALF if joined else LANES)
        live = here & passing(winners, p * stride)
        value = load_where(grad, p * count, live)
        if m == there - 1:
            for k in range(1, flats):
                value = value + load_where(grad, np.intp(flat[k]) * count, live)
        store(masked, to, value)
        store_places(places, to, winners, p * stride, channels, PAIRED if joined and (m - begin) & 1 else 0)
        total = total + value
    store(bias, 0, total)


@jit_inline
def _ask(asks, step):
    """Ask for as many lines of the next image's gradients, winners and pixels as `asks` says are due at each step."""
    (grad, winners, image), (grads, won, pixels), asked, rate = asks
    for number in range(asked + step * rate, asked + (step + 1) * rate):
        if number < grads:
            prefetch(grad, number * line_of(grad))
        elif number < grads + won:
            prefetch(winners, (number - grads) * line_of(winners))
        elif number < grads + won + pixels:
            prefetch(image, (number - grads - won) * line_of(image))


@jit_part
def _add_taps(size, pairs, starts, chosen, part, joined, masked, places, asks, rows, w):
    """Add the products of five taps in some rows and a vector of filters over some of the listed windows of an image.

    `size` is _TWO or _THREE rows.
    """
    (begin, end), rows, sums = part, load_offsets(rows, size[0]), load_run(w, size[1])
    if joined:
        for m in range(begin, end, 2):
            both = (starts[np.intp(chosen[m])], starts[np.intp(chosen[min(m + 1, end - 1)])])
            at = (m - begin) * HALF
            _ask(asks, (m - begin) // 2)
            sums = add_picked(pairs, both, rows, load(places, at), load(masked, at), sums)
    else:
        for m in range(begin, end):
            window, at = (starts[np.intp(chosen[m])],), (m - begin) * LANES
            _ask(asks, m - begin)
            sums = add_picked(pairs, window, rows, load(places, at), load(masked, at), sums)
    store_run(w, sums)


@parallel_jit
def _backward(grad_y, winners, x, frame, starts, offsets, reach, image, scratch, sums, bias):
    """Add to each chunk's sums, of the filters (vectors, taps, LANES) and of the bias, what its samples give.

    `starts` are those of the pooling windows, `offsets` those of the taps, both in pairs, `reach` is from `reach_of`,
    and `image` the floats of an image in its margin, in `scratch`.

    While a core multiplies, it asks for the gradients, winners and pixels of its next image, a line or two with each
    window: a tenth of them at once had to be waited for, and all took 1.1 times as long.
    """
    samples, height, width, channels = x.shape
    size, count, stride = grad_y.shape[1:3], grad_y.shape[3], winners.shape[3]
    chunks, vectors, groups, _ = sums.shape
    pixels, row, floats = size[0] * size[1], frame[1] * channels, height * width * channels
    passes = (groups + 2) // 3
    line, won_line = line_of(address(x)), line_of(address(winners))
    lines = (pixels * count // line + 1, pixels * stride // won_line + 1, floats // line + 1)
    for chunk_index in prange(chunks):
        chunk = np.intp(chunk_index)
        work = shifted(address(scratch), chunk * scratch.shape[1])
        pairs, masked = shifted(work, image), shifted(work, 3 * image)
        places, room = shifted(masked, _PREPARED), shifted(masked, 2 * _PREPARED)
        (chosen, flat), flats = lists_at(room, pixels), 1
        for n in range(samples * chunk // chunks, samples * (chunk + 1) // chunks):
            first = shifted(address(x), n * floats)
            image_at = first
            if not fills(frame, height, width):
                place(first, height, width, channels, frame, work)
                image_at = work
            place_pairs(image_at, frame[0] * row, row, pairs)
            there, flats = list_windows(image_at, size, row, channels, reach, first, looks(reach, flats, n), room)
            lists = (chosen, there, flat, flats)
            ahead = (
                shifted(address(grad_y), (n + 1) * pixels * count),
                shifted(address(winners), (n + 1) * pixels * stride),
                shifted(address(x), (n + 1) * floats),
            )
            steps = passes * ((vectors - 1) * there + ((there + 1) // 2 if _shares(count, vectors - 1) else there))
            asked, rate = 0, (lines[0] + lines[1] + lines[2]) // max(1, steps) + 1
            for v in range(vectors):
                won, joined = shifted(address(winners), n * pixels * stride + v * LANES), _shares(count, v)
                gradients = (shifted(address(grad_y), n * pixels * count + v * LANES), won)
                shape = (count, count - v * LANES, stride, channels)
                total = shifted(address(bias), (chunk * vectors + v) * LANES)
                for begin in range(0, there, _WINDOWS):
                    part = (begin, min(begin + _WINDOWS, there))
                    _prepare(gradients, shape, lists, part, joined, masked, places, total)
                    group = 0
                    while group < groups:
                        asks = (ahead, lines, asked, rate)
                        rows, at = shifted(address(offsets), group), (chunk * vectors + v) * groups + group
                        w = shifted(address(sums), at * _TAPS * LANES)
                        listed = (pairs, address(starts), chosen, part, joined, masked, places, asks, rows, w)
                        if groups - group == 2 or groups - group == 4:
                            _add_taps(_TWO, *listed)
                            group += 2
                        else:
                            _add_taps(_THREE, *listed)
                            group += 3
                        taken = part[1] - part[0]
                        asked += rate * ((taken + 1) // 2 if joined else taken)
