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

from fastcnn.backends.numba.conv.kernels import place
from fastcnn.backends.numba.conv.operations import Frame, chunks_of
from fastcnn.backends.numba.conv.pooled_vectors import PAIRED, load_paired, pick, store_pairs, store_places
from fastcnn.backends.numba.jit import jit_part, parallel_jit
from fastcnn.backends.numba.packing import FloatArray, Workspace, padded_width
from fastcnn.backends.numba.simd import (
    LANES,
    above,
    address,
    first_lanes,
    fma,
    load,
    load_where,
    select,
    shifted,
    splat,
    store,
)

#: Taps that are summed at once, one accumulator each.
_TAPS = 5

#: Up to how many taps a window is short.
_SHORT = 49


def is_short(kernel: tuple[int, ...]) -> bool:
    """Whether this module's way is the quicker for filters (height, width, C, F)."""
    height, width, channels, _ = kernel
    return 2 * (_TAPS + channels) <= PAIRED and height * width * channels <= _SHORT


def filter_gradient(
    grad_y: FloatArray,
    y: FloatArray,
    winners: NDArray[np.uint8],
    x: FloatArray,
    kernel: tuple[int, int, int],
    frame: Frame,
    relu: bool,
    workspace: Workspace,
) -> tuple[FloatArray, FloatArray]:
    """Return the gradients for the filters (taps, F) and the bias (F,), summed over the batch.

    Args:
        grad_y, y, winners, x, relu, workspace: as for `pooled.conv_pool_backward`.
        kernel: (height, width, C).
        frame: where the images lie in their margin.
    """
    count, (kernel_height, run) = grad_y.shape[3], (kernel[0], kernel[1] * kernel[2])
    row, vectors, pixels = frame[1] * x.shape[3], padded_width(count) // LANES, grad_y.shape[1] * grad_y.shape[2]
    groups = -(-run // _TAPS)
    offsets = (row * np.arange(kernel_height)[:, None] + _TAPS * np.arange(groups)).ravel()
    chunks = chunks_of(len(x), vectors * len(offsets) * _TAPS * LANES)
    image = padded_width(frame[0] * row + PAIRED)
    scratch = workspace.array("short", (chunks, 3 * image + 2 * pixels * LANES))
    sums = workspace.array("short_sums", (chunks, vectors, len(offsets), _TAPS * LANES), zeros=False)
    bias = workspace.array("short_bias", (chunks, vectors * LANES), zeros=False)
    sums.fill(0)
    bias.fill(0)
    _backward(grad_y, y, relu, winners, x, frame, offsets, image, scratch, sums, bias)
    total = sums.sum(axis=0).reshape(vectors, kernel_height, groups * _TAPS, LANES)[:, :, :run].transpose(1, 2, 0, 3)
    return total.reshape(kernel_height * run, -1)[:, :count], bias.sum(axis=0)[:count]


@jit_part
def _prepare(grad, y, passes, winners, stride, pixels, count, lanes, channels, masked, places, bias):
    """Copy a vector of each pixel's gradients, zero where ReLU let nothing pass, and add all to `bias`."""
    here, zero, total = first_lanes(lanes), splat(np.float32(0)), load(bias, 0)
    for p in range(pixels):
        value = load_where(grad, p * count, here)
        if not passes:
            value = select(above(load_where(y, p * count, here), zero), value, zero)
        store(masked, p * LANES, value)
        store_places(places, p * LANES, winners, p * stride, channels)
        total = total + value
    store(bias, 0, total)


@jit_part
def _pair(image, length, row, pairs):
    """Copy each float of an image, and beside it the one below."""
    for k in range(0, length, LANES):
        store_pairs(pairs, 2 * k, load(image, k), load(image, k + row))


@jit_part
def _add_taps(pairs, size, steps, grad, places, w):
    """Add the products of five taps in a row and a vector of filters over the maxima of an image."""
    a0, a1, a2, a3, a4 = load(w, 0), load(w, LANES), load(w, 2 * LANES), load(w, 3 * LANES), load(w, 4 * LANES)
    (rows, columns), (down, right) = size, steps
    g = 0
    for i in range(rows):
        at, end = i * down, i * down + columns * right
        while at != end:  # as in `direct_gradient`
            value, place, window = load(grad, g), load(places, g), load_paired(pairs, at)
            a0, a1 = fma(pick(window, place, 0), value, a0), fma(pick(window, place, 1), value, a1)
            a2, a3 = fma(pick(window, place, 2), value, a2), fma(pick(window, place, 3), value, a3)
            a4 = fma(pick(window, place, 4), value, a4)
            at += right
            g += LANES
    store(w, 0, a0)
    store(w, LANES, a1)
    store(w, 2 * LANES, a2)
    store(w, 3 * LANES, a3)
    store(w, 4 * LANES, a4)


@parallel_jit
def _backward(grad_y, y, relu, winners, x, frame, offsets, image, scratch, sums, bias):
    """Add to each chunk's sums, of the filters (vectors, taps, LANES) and of the bias, what its samples give.

    `offsets` are those of the taps among the fours, and `image` the floats of an image in its margin, in `scratch`.
    """
    samples, height, width, channels = x.shape
    size, count = grad_y.shape[1:3], grad_y.shape[3]
    chunks, vectors, groups, _ = sums.shape
    pixels, stride, row = size[0] * size[1], winners.shape[3], frame[1] * channels
    steps = (4 * row, 4 * channels)
    for chunk_index in prange(chunks):
        chunk = np.intp(chunk_index)
        work = shifted(address(scratch), chunk * scratch.shape[1])
        pairs, masked = shifted(work, image), shifted(work, 3 * image)
        places = shifted(masked, pixels * LANES)
        for n in range(samples * chunk // chunks, samples * (chunk + 1) // chunks):
            place(shifted(address(x), n * height * width * channels), height, width, channels, frame, work)
            _pair(work, (frame[0] - 1) * row, row, pairs)
            for v in range(vectors):
                at, won = n * pixels * count + v * LANES, shifted(address(winners), n * pixels * stride + v * LANES)
                total = shifted(address(bias), (chunk * vectors + v) * LANES)
                grad, maxima, lanes = shifted(address(grad_y), at), shifted(address(y), at), count - v * LANES
                _prepare(grad, maxima, not relu, won, stride, pixels, count, lanes, channels, masked, places, total)
                for group in range(groups):
                    w = shifted(address(sums), ((chunk * vectors + v) * groups + group) * _TAPS * LANES)
                    _add_taps(shifted(pairs, 2 * offsets[group]), size, steps, masked, places, w)
