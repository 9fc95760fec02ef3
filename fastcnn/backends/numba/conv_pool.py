"""Convolution, ReLU where wanted, and 2x2 max-pooling as one operation, forward and backward.

Forward, the four pixels of a pooling window are convolved side by side and leave the registers as one maximum; for 3x3
filters of many channels `conv_pool_winograd` does so with fewer multiplications.
Backward, at most one pixel in four has a gradient, and with ReLU often none: both gradients of the convolution are
summed over those alone, exactly, in a quarter of the multiplications of `conv` or less.

For that, the gradients that are not zero are listed filter by filter, for as many rows of the image as the first-level
cache holds. Then six vectors of a filter's taps and six of its gradient stay in registers while its list goes by: for
each entry the window of the image is added to the filter's gradient, and the filter to the window of the image's. A
network's first layer, of few taps and without the second part, is left to `conv_pool_short`.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from fastcnn.backends.numba import conv_kernels as kernels
from fastcnn.backends.numba import conv_pool_short, conv_pool_winograd
from fastcnn.backends.numba.conv import (
    CHUNKS,
    Frame,
    Padding,
    chunks_of,
    frame_of,
    grouped_filters,
    margin,
    packed_filters,
    windows_of,
)
from fastcnn.backends.numba.conv_kernels import place, take_out
from fastcnn.backends.numba.jit import jit_inline, jit_part, parallel_jit
from fastcnn.backends.numba.packing import ROWS, FloatArray, Workspace, in_vectors, padded_width
from fastcnn.backends.numba.simd import LANES, address, fma, load, shifted, splat, store

#: Vectors of one filter that are in registers together: with as many of its gradient, half of the 32 of AVX-512.
GROUP = 6

#: Bytes of the image and of its gradient that one list of gradients reaches over, most of a first-level cache.
_STRIP_BYTES = 56_000

_NOTHING = np.zeros((0, 0, 0, 0), np.float32)


def conv_pool_forward(
    x: FloatArray,
    filters: NDArray[Any],
    bias: NDArray[Any] | None,
    padding: Padding,
    relu: bool,
    workspace: Workspace,
) -> tuple[FloatArray, NDArray[np.uint8]]:
    """Convolve images, replace what is negative by zero if `relu`, and take the maxima of 2x2 windows.

    Args:
        x: images (N, H, W, C).
        filters: (kernel height, kernel width, C, F).
        bias: (F,), or None for none.
        padding: rows and columns of zeros added to the images, ((top, bottom), (left, right)).
        relu: whether there is one, before or behind the pooling: that is the same.
        workspace: what the results are kept in.

    Returns:
        The maxima (N, OH // 2, OW // 2, F), where OH and OW are the convolution's output, and which pixel of each
        window it was, row by row, the first of several (N, OH // 2, OW // 2, F in whole vectors).
    """
    frame = frame_of(x.shape, padding)
    height, width = (frame[0] - filters.shape[0] + 1) // 2, (frame[1] - filters.shape[1] + 1) // 2
    count = filters.shape[3]
    y = workspace.array("y", (len(x), height, width, count))
    winners = workspace.array("winners", (len(x), height, width, padded_width(count)), np.uint8)
    least = np.float32(0 if relu else -np.inf)
    start = in_vectors(bias, count)
    if conv_pool_winograd.pays(filters.shape):
        conv_pool_winograd.forward(x, filters, start, least, frame, workspace, y, winners)
        return y, winners
    packed = packed_filters(filters)
    scratch = workspace.array("forward", (min(len(x), CHUNKS), LANES + margin(x, frame)))
    windows = _pooled_windows(height, width, frame, x.shape[3])
    kernels.convolve_pooled(x, frame, packed, filters.shape[0], start, least, windows, scratch, y, winners)
    return y, winners


@functools.lru_cache(maxsize=256)
def _pooled_windows(height: int, width: int, frame: Frame, channels: int) -> NDArray[np.int64]:
    """Return `windows_of` a convolution's output, the four pixels of a pooling window one after the other."""
    pixels = windows_of((0, 2 * height, 2 * width, 0), frame, (1, 1), channels)[: 4 * height * width]
    windows = pixels.reshape(height, 2, width, 2).swapaxes(1, 2).ravel()
    return np.pad(windows, (0, -len(windows) % ROWS), mode="edge")


def conv_pool_backward(
    grad_y: FloatArray,
    y: FloatArray,
    winners: NDArray[np.uint8],
    x: FloatArray,
    filters: NDArray[Any],
    padding: Padding,
    relu: bool,
    wants_input: bool,
    workspace: Workspace,
) -> tuple[FloatArray | None, FloatArray, FloatArray]:
    """Return the gradients of `conv_pool_forward`, summed over the batch.

    Args:
        grad_y: gradient for the maxima (N, OH // 2, OW // 2, F).
        y, winners: what the forward pass returned.
        x, filters, padding, relu, workspace: as in the forward pass.
        wants_input: whether the gradient for the images is wanted.

    Returns:
        The gradients for the images (N, H, W, C), or None, for the filters (kernel height, kernel width, C, F) and
        for the bias (F,).
    """
    kernel_height, kernel_width, channels, count = filters.shape
    frame = frame_of(x.shape, padding)
    run = kernel_width * channels
    if not wants_input and conv_pool_short.is_short(kernel_height, run):
        windows = _pooled_windows(*grad_y.shape[1:3], frame, channels)
        grad_filters, grad_bias = conv_pool_short.filter_gradient(
            grad_y, y, winners, x, kernel_height, run, frame, windows, relu, workspace
        )
        return None, grad_filters.reshape(filters.shape), grad_bias
    vectors = padded_width(run) // LANES  # of one row of a window
    groups = -(-kernel_height * vectors // GROUP)
    taps = groups * GROUP * LANES
    # In place where a window's rows are whole vectors; else in a workspace that has room behind the last of them.
    direct = frame == (*x.shape[1:3], 0, 0) and run % LANES == 0
    size = padded_width(frame[0] * frame[1] * channels + LANES)
    chunks = chunks_of(len(x), count * taps)
    scratch = workspace.array("backward", (chunks, LANES if direct else 2 * size))
    partial_filters = workspace.array("grad_filters", (chunks, groups, count, GROUP * LANES))
    partial_bias = workspace.array("grad_bias", (chunks, count))
    partial_filters.fill(0)
    partial_bias.fill(0)
    grad_x = workspace.array("grad_x", x.shape) if wants_input else None
    grouped, offsets = grouped_filters(filters, frame[1] * channels, GROUP)
    _backward(
        grad_y,
        y,
        relu,
        winners,
        x,
        frame,
        grouped,
        offsets,
        direct,
        scratch,
        _NOTHING if grad_x is None else grad_x,
        partial_filters,
        partial_bias,
    )
    by_filter = partial_filters.sum(axis=0).swapaxes(0, 1).reshape(count, -1, LANES)[:, -kernel_height * vectors :]
    by_row = by_filter.reshape(count, kernel_height, -1)[:, :, :run]
    return grad_x, np.ascontiguousarray(by_row.transpose(1, 2, 0)).reshape(filters.shape), partial_bias.sum(axis=0)


@jit_part
def _list(grad, y, relu, winners, pixels, width, count, stride, steps, capacity, found, at, values, grad_b):
    """List the gradients (pixels, count) that are not zero filter by filter, and add them to `grad_b`.

    For filter f, ``found[f]`` of them: ``values[f * capacity + i]``, and in ``at`` where their windows begin.
    """
    row, channels = steps
    passes = not relu
    for f in range(count):
        found[f] = 0
    for p in range(pixels):
        window = 2 * (p // width * row + p % width * channels)
        for f in range(count):
            value = grad[p * count + f]
            winner = np.intp(winners[p * stride + f])
            place_in = f * capacity + found[f]
            values[place_in] = value
            at[place_in] = window + (winner >> 1) * row + (winner & 1) * channels
            found[f] += (value != 0) & ((y[p * count + f] > 0) | passes)  # no branch: it would be a guess
    for f in range(count):
        total = np.float32(0)
        for i in range(f * capacity, f * capacity + found[f]):
            total += values[i]
        grad_b[f] += total


@jit_inline
def _add_windows(image, grad_image, wanted, w, grad_w, offsets, found, at, values):
    """Go through one filter's list with GROUP vectors of the filter at `w` and of its gradient at `grad_w`."""
    o0, o1, o2, o3, o4, o5 = offsets[0], offsets[1], offsets[2], offsets[3], offsets[4], offsets[5]
    a0, a1, a2 = load(grad_w, 0), load(grad_w, LANES), load(grad_w, 2 * LANES)
    a3, a4, a5 = load(grad_w, 3 * LANES), load(grad_w, 4 * LANES), load(grad_w, 5 * LANES)
    if wanted:
        w0, w1, w2 = load(w, 0), load(w, LANES), load(w, 2 * LANES)
        w3, w4, w5 = load(w, 3 * LANES), load(w, 4 * LANES), load(w, 5 * LANES)
        for m in range(found):
            value = splat(values[m])
            window, target = shifted(image, np.intp(at[m])), shifted(grad_image, np.intp(at[m]))
            a0 = fma(value, load(window, o0), a0)
            a1 = fma(value, load(window, o1), a1)
            a2 = fma(value, load(window, o2), a2)
            a3 = fma(value, load(window, o3), a3)
            a4 = fma(value, load(window, o4), a4)
            a5 = fma(value, load(window, o5), a5)
            t0, t1 = fma(value, w0, load(target, o0)), fma(value, w1, load(target, o1))
            t2, t3 = fma(value, w2, load(target, o2)), fma(value, w3, load(target, o3))
            t4, t5 = fma(value, w4, load(target, o4)), fma(value, w5, load(target, o5))
            store(target, o0, t0)
            store(target, o1, t1)
            store(target, o2, t2)
            store(target, o3, t3)
            store(target, o4, t4)
            store(target, o5, t5)
    else:
        for m in range(found):
            value = splat(values[m])
            window = shifted(image, np.intp(at[m]))
            a0 = fma(value, load(window, o0), a0)
            a1 = fma(value, load(window, o1), a1)
            a2 = fma(value, load(window, o2), a2)
            a3 = fma(value, load(window, o3), a3)
            a4 = fma(value, load(window, o4), a4)
            a5 = fma(value, load(window, o5), a5)
    store(grad_w, 0, a0)
    store(grad_w, LANES, a1)
    store(grad_w, 2 * LANES, a2)
    store(grad_w, 3 * LANES, a3)
    store(grad_w, 4 * LANES, a4)
    store(grad_w, 5 * LANES, a5)


@parallel_jit
def _backward(
    grad_y, y, relu, winners, x, frame, grouped, offsets, direct, scratch, grad_x, partial_filters, partial_bias
):
    """Add to each chunk's gradients of the filters and the bias, and fill `grad_x` unless it is empty.

    `grouped` (groups, F, GROUP * LANES) are the filters, `offsets` where in a window each vector of the groups is.
    With `direct` the images are worked on in place, else in `scratch`.
    """
    samples, height, width, channels = x.shape
    _, pooled_height, pooled_width, count = grad_y.shape
    chunks, groups = partial_filters.shape[:2]
    stride = winners.shape[3]
    size = height * width * channels
    row = frame[1] * channels
    work_size = frame[0] * row
    wanted = grad_x.size > 0
    strip = min(pooled_height, max(1, _STRIP_BYTES // (16 * row)))  # 2 rows of 4 bytes, of the image and its gradient
    capacity = strip * pooled_width
    taps = GROUP * LANES
    for chunk_index in prange(chunks):
        chunk = np.intp(chunk_index)
        found, at = np.empty(count, np.int64), np.empty(count * capacity, np.int32)
        values = np.empty(count * capacity, np.float32)
        work = shifted(address(scratch), chunk * scratch.shape[1])
        grad_work = shifted(work, scratch.shape[1] // 2)
        grad_b = shifted(address(partial_bias), chunk * count)
        for n in range(samples * chunk // chunks, samples * (chunk + 1) // chunks):
            image = shifted(address(x), n * size)
            grad_image = shifted(address(grad_x), n * size if wanted else 0)
            if not direct:
                place(image, height, width, channels, frame, work)
                image, grad_image = work, grad_work
            if wanted:
                for k in range(work_size):
                    grad_image[k] = np.float32(0)
            for top in range(0, pooled_height, strip):
                p = (n * pooled_height + top) * pooled_width
                _list(
                    shifted(address(grad_y), p * count),
                    shifted(address(y), p * count),
                    relu,
                    shifted(address(winners), p * stride),
                    min(strip, pooled_height - top) * pooled_width,
                    pooled_width,
                    count,
                    stride,
                    (row, channels),
                    capacity,
                    address(found),
                    address(at),
                    address(values),
                    grad_b,
                )
                for group in range(groups):
                    for f in range(count):
                        if found[f] > 0:
                            _add_windows(
                                shifted(image, 2 * top * row),
                                shifted(grad_image, 2 * top * row),
                                wanted,
                                shifted(address(grouped), (group * count + f) * taps),
                                shifted(address(partial_filters), ((chunk * groups + group) * count + f) * taps),
                                shifted(address(offsets), group * GROUP),
                                found[f],
                                shifted(address(at), f * capacity),
                                shifted(address(values), f * capacity),
                            )
            if wanted and not direct:
                take_out(grad_work, height, width, channels, frame, shifted(address(grad_x), n * size))
