"""The filters' gradient of a pooled convolution whose windows are short and whose images need no gradient.

That is what a network's first layer is: 25 taps of a 5x5 filter on grey images. There, listing the gradients that
are not zero, as `pooled_lists` does, costs more than multiplying them all.

Lanes are filters. A tap of a pooling window is one of four numbers, of which each filter picks its winner's. Images are
copied so that each float has the one below it beside it: then one vector holds all four for a few taps, and a
permutation gives a tap to all filters. For 5x5x1 to 24 filters that takes 0.7 of the time of taps as lanes (each
filter's gradient with the window of its pixel, copied to whole vectors), and that took half of the time of lists.
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
from fastcnn.backends.numba.conv.kernels import ask_for_share, place
from fastcnn.backends.numba.conv.operations import Frame, chunks_of
from fastcnn.backends.numba.conv.pooled_vectors import PAIRED, load_paired, passing, pick, store_pairs, store_places
from fastcnn.backends.numba.jit import jit_part, parallel_jit
from fastcnn.backends.numba.packing import FloatArray, Workspace, padded_width
from fastcnn.backends.numba.simd import (
    LANES,
    address,
    first_lanes,
    fma,
    load,
    load_where,
    shifted,
    store,
)

#: Taps that are summed at once, one accumulator each.
_TAPS = 5

#: Windows that are taken at once: with their image they stay in the first-level cache.
_WINDOWS = 64

#: Up to how many taps a window is short.
_SHORT = 49


def is_short(kernel: tuple[int, ...]) -> bool:
    """Whether this module's way is the quicker for filters (height, width, C, F)."""
    height, width, channels, _ = kernel
    return 2 * (_TAPS + channels) <= PAIRED and height * width * channels <= _SHORT


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
    offsets = (row * np.arange(kernel_height)[:, None] + _TAPS * np.arange(groups)).ravel()
    chunks = chunks_of(len(x), vectors * len(offsets) * _TAPS * LANES)
    image = padded_width(frame[0] * row + PAIRED)
    reach = reach_of((*kernel,))
    room = room_for_lists(pixels, row, reach)
    scratch = workspace.array("short", (chunks, 3 * image + 2 * _WINDOWS * LANES + room))
    sums = workspace.array("short_sums", (chunks, vectors, len(offsets), _TAPS * LANES), zeros=False)
    bias = workspace.array("short_bias", (chunks, vectors * LANES), zeros=False)
    sums.fill(0)
    bias.fill(0)
    starts = window_starts(*grad_y.shape[1:3], frame[1], x.shape[3])
    _backward(grad_y, winners, x, frame, starts, offsets, reach, image, scratch, sums, bias)
    total = sums.sum(axis=0).reshape(vectors, kernel_height, groups * _TAPS, LANES)[:, :, :run].transpose(1, 2, 0, 3)
    return total.reshape(kernel_height * run, -1)[:, :count], bias.sum(axis=0)[:count]


@jit_part
def _prepare(gradients, shape, lists, part, channels, masked, bias):
    """Copy a vector of gradients of some of the listed windows, zero where ReLU lets nothing pass; add them to `bias`.

    Behind them go where in their windows the winners are. The last window listed stands for all that are flat, with
    the sum of their gradients: to ReLU they are one, too.
    """
    grad, winners = gradients
    (count, lanes, stride), (begin, end) = shape, part
    here, total = first_lanes(lanes), load(bias, 0)
    chosen, there, flat, flats = lists
    for m in range(begin, end):
        p = np.intp(chosen[m])
        live = here & passing(winners, p * stride)
        value = load_where(grad, p * count, live)
        if m == there - 1:
            for k in range(1, flats):
                value = value + load_where(grad, np.intp(flat[k]) * count, live)
        store(masked, 2 * (m - begin) * LANES, value)
        store_places(masked, (2 * (m - begin) + 1) * LANES, winners, p * stride, channels)
        total = total + value
    store(bias, 0, total)


@jit_part
def _pair(image, length, row, pairs):
    """Copy each float of an image, and beside it the one below."""
    for k in range(0, length, LANES):
        store_pairs(pairs, 2 * k, load(image, k), load(image, k + row))


@jit_part
def _add_taps(pairs, starts, chosen, part, grad, w):
    """Add the products of five taps in a row and a vector of filters over some of the listed windows of an image."""
    a0, a1, a2, a3, a4 = load(w, 0), load(w, LANES), load(w, 2 * LANES), load(w, 3 * LANES), load(w, 4 * LANES)
    g = 0
    for m in range(part[0], part[1]):
        value, place = load(grad, g), load(grad, g + LANES)
        window = load_paired(pairs, 2 * starts[np.intp(chosen[m])])
        a0, a1 = fma(pick(window, place, 0), value, a0), fma(pick(window, place, 1), value, a1)
        a2, a3 = fma(pick(window, place, 2), value, a2), fma(pick(window, place, 3), value, a3)
        a4 = fma(pick(window, place, 4), value, a4)
        g += 2 * LANES
    store(w, 0, a0)
    store(w, LANES, a1)
    store(w, 2 * LANES, a2)
    store(w, 3 * LANES, a3)
    store(w, 4 * LANES, a4)


@parallel_jit
def _backward(grad_y, winners, x, frame, starts, offsets, reach, image, scratch, sums, bias):
    """Add to each chunk's sums, of the filters (vectors, taps, LANES) and of the bias, what its samples give.

    `starts` are those of the pooling windows, `offsets` those of the taps among the fours, `reach` is from `reach_of`,
    and `image` the floats of an image in its margin, in `scratch`. While a core multiplies, it asks for the gradients
    and winners of its next image.
    """
    samples, height, width, channels = x.shape
    size, count, stride = grad_y.shape[1:3], grad_y.shape[3], winners.shape[3]
    chunks, vectors, groups, _ = sums.shape
    pixels, row = size[0] * size[1], frame[1] * channels
    share, won_share = pixels * count // (vectors * groups) + 1, pixels * stride // (vectors * groups) + 1
    for chunk_index in prange(chunks):
        chunk = np.intp(chunk_index)
        work = shifted(address(scratch), chunk * scratch.shape[1])
        pairs, masked = shifted(work, image), shifted(work, 3 * image)
        room = shifted(masked, 2 * _WINDOWS * LANES)
        (chosen, flat), flats = lists_at(room, pixels), 1
        for n in range(samples * chunk // chunks, samples * (chunk + 1) // chunks):
            first = shifted(address(x), n * height * width * channels)
            place(first, height, width, channels, frame, work)
            _pair(work, (frame[0] - 1) * row, row, pairs)
            there, flats = list_windows(work, size, row, channels, reach, first, looks(reach, flats, n), room)
            lists = (chosen, there, flat, flats)
            for v in range(vectors):
                at, won = n * pixels * count + v * LANES, shifted(address(winners), n * pixels * stride + v * LANES)
                gradients = (shifted(address(grad_y), at), won)
                shape, total = (count, count - v * LANES, stride), shifted(address(bias), (chunk * vectors + v) * LANES)
                for begin in range(0, there, _WINDOWS):
                    part = (begin, min(begin + _WINDOWS, there))
                    _prepare(gradients, shape, lists, part, channels, masked, total)
                    for group in range(groups):
                        if begin == 0:
                            step = v * groups + group
                            ask_for_share(address(grad_y), (n + 1) * pixels * count, share, step)
                            ask_for_share(address(winners), (n + 1) * pixels * stride, won_share, step)
                        w = shifted(address(sums), ((chunk * vectors + v) * groups + group) * _TAPS * LANES)
                        _add_taps(shifted(pairs, 2 * offsets[group]), address(starts), chosen, part, masked, w)
