"""Convolution, forward and backward, on all cores.

A window of an NHWC image is `kernel height` runs of `kernel width * channels` floats that lie one after the
other in memory, and so are the filters' taps: the kernels know runs only, never single channels. No window is
copied for the forward pass; the eight pixels it computes at once read the image in place.

The backward pass goes pixel by pixel over the gradient and uses the values that are not zero only: a 2x2
max-pooling behind the convolution leaves at most a quarter of them. Samples are dealt to a number of chunks
that depends on the batch alone, each with its own gradient of the filters, and these are added in order: the
result does not depend on the threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from fastcnn.backends import checks
from fastcnn.backends.numba.jit import jit_inline, parallel_jit
from fastcnn.backends.numba.packing import ROWS, FloatArray, float32, padded_rows, panels
from fastcnn.backends.numba.simd import LANES, address, fma, load, shifted, splat, store

#: Chunks of samples that have gradients of their own, at most.
CHUNKS = 32


def conv2d_forward(x: NDArray[Any], filters: NDArray[Any], bias: NDArray[Any] | None) -> FloatArray:
    """Convolve images with filters (no padding, stride 1, filters not flipped).

    Args:
        x: images (N, H, W, C).
        filters: (kernel height, kernel width, C, F).
        bias: (F,), or None for none.

    Returns:
        The filtered images (N, H - kernel height + 1, W - kernel width + 1, F), float32.

    Raises:
        ArgumentError: a shape or a dtype is wrong, or the kernel is larger than the image.
    """
    checks.conv2d(x, filters, bias)
    samples, height, width, channels = x.shape
    kernel_height, kernel_width, _, count = filters.shape
    packed = panels(float32(filters).reshape(-1, count))
    start = np.zeros(packed.shape[0] * LANES, np.float32)
    if bias is not None:
        start[:count] = bias
    y = np.empty((samples, height - kernel_height + 1, width - kernel_width + 1, count), np.float32)
    windows = _windows(y.shape, width, channels)
    edge = np.empty((samples, LANES), np.float32)
    _forward(float32(x), packed, kernel_height, start, windows, edge, y)
    return y


def conv2d_backward(
    grad_y: NDArray[Any], x: NDArray[Any], filters: NDArray[Any]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the gradients of a convolution, summed over the batch.

    Args:
        grad_y: gradient for the convolution's output (N, H - kernel height + 1, W - kernel width + 1, F).
        x: images (N, H, W, C).
        filters: (kernel height, kernel width, C, F).

    Returns:
        The gradients for the images (N, H, W, C), the filters (kernel height, kernel width, C, F) and the
        bias (F,).

    Raises:
        ArgumentError: a shape or a dtype is wrong, or the kernel is larger than the image.
    """
    checks.conv2d_backward(grad_y, x, filters)
    samples, _, width, channels = x.shape
    count = filters.shape[3]
    by_filter = padded_rows(np.ascontiguousarray(float32(filters).reshape(-1, count).T))  # (F, kh * kw * C, padded)
    chunks = min(samples, CHUNKS)
    grad_x = np.zeros(x.shape, np.float32)
    partial_filters = np.zeros((chunks, *by_filter.shape), np.float32)
    partial_bias = np.zeros((chunks, count), np.float32)
    scratch = np.zeros((chunks, 2 * by_filter.shape[1] + count), np.float32)
    windows = _windows(grad_y.shape, width, channels)
    _backward(
        float32(grad_y),
        float32(x),
        by_filter,
        filters.shape[0],
        windows,
        scratch,
        grad_x,
        partial_filters,
        partial_bias,
    )
    taps = filters.size // count
    grad_filters = np.ascontiguousarray(partial_filters.sum(axis=0)[:, :taps].T).reshape(filters.shape)
    return grad_x, grad_filters, partial_bias.sum(axis=0)


def _windows(output_shape: tuple[int, ...], width: int, channels: int) -> NDArray[np.int64]:
    """Return where each output pixel's window begins in its image, padded to a multiple of ROWS."""
    _, out_height, out_width, _ = output_shape
    starts = (np.arange(out_height)[:, None] * width + np.arange(out_width)).ravel() * channels
    return np.pad(starts, (0, -len(starts) % ROWS), mode="edge").astype(np.int64)


@jit_inline
def _put(vector, lanes, y, to, edge):
    """Write the first `lanes` of a vector; where that is not all of them, by way of `edge`."""
    if lanes >= LANES:
        store(y, to, vector)
    else:
        store(edge, 0, vector)
        for lane in range(lanes):
            y[to + lane] = edge[lane]


@parallel_jit
def _forward(x, packed, kernel_height, bias, windows, edge, y):
    samples, height, width, channels = x.shape
    count = y.shape[3]
    pixels = y.shape[1] * y.shape[2]
    row = width * channels
    taps = packed.shape[1]
    run = taps // kernel_height
    for sample in prange(samples):
        n = np.intp(sample)
        image = shifted(address(x), n * height * row)
        out = shifted(address(y), n * pixels * count)
        spare = shifted(address(edge), n * LANES)
        for p in range(0, pixels, ROWS):
            x0, x1 = shifted(image, windows[p]), shifted(image, windows[p + 1])
            x2, x3 = shifted(image, windows[p + 2]), shifted(image, windows[p + 3])
            x4, x5 = shifted(image, windows[p + 4]), shifted(image, windows[p + 5])
            x6, x7 = shifted(image, windows[p + 6]), shifted(image, windows[p + 7])
            left = pixels - p
            for panel in range(packed.shape[0]):
                w = shifted(address(packed), panel * taps * LANES)
                a0 = load(address(bias), panel * LANES)
                a1, a2, a3, a4, a5, a6, a7 = a0, a0, a0, a0, a0, a0, a0
                for i in range(kernel_height):
                    for k in range(run):
                        at = i * row + k
                        tap = load(w, (i * run + k) * LANES)
                        a0 = fma(splat(x0[at]), tap, a0)
                        a1 = fma(splat(x1[at]), tap, a1)
                        a2 = fma(splat(x2[at]), tap, a2)
                        a3 = fma(splat(x3[at]), tap, a3)
                        a4 = fma(splat(x4[at]), tap, a4)
                        a5 = fma(splat(x5[at]), tap, a5)
                        a6 = fma(splat(x6[at]), tap, a6)
                        a7 = fma(splat(x7[at]), tap, a7)
                lanes = count - panel * LANES
                to = p * count + panel * LANES
                _put(a0, lanes, out, to, spare)
                if left > 1:
                    _put(a1, lanes, out, to + count, spare)
                if left > 2:
                    _put(a2, lanes, out, to + 2 * count, spare)
                if left > 3:
                    _put(a3, lanes, out, to + 3 * count, spare)
                if left > 4:
                    _put(a4, lanes, out, to + 4 * count, spare)
                if left > 5:
                    _put(a5, lanes, out, to + 5 * count, spare)
                if left > 6:
                    _put(a6, lanes, out, to + 6 * count, spare)
                if left > 7:
                    _put(a7, lanes, out, to + 7 * count, spare)


@parallel_jit
def _backward(grad_y, x, by_filter, kernel_height, windows, scratch, grad_x, partial_filters, partial_bias):
    samples, height, width, channels = x.shape
    count, taps = by_filter.shape  # taps: padded to whole vectors
    pixels = grad_y.shape[1] * grad_y.shape[2]
    row = width * channels
    run = (width - grad_y.shape[2] + 1) * channels
    chunks = partial_bias.shape[0]
    for chunk_index in prange(chunks):
        chunk = np.intp(chunk_index)
        numbers = np.empty(count, np.int64)  # of the filters whose gradient is not zero at one pixel
        window = shifted(address(scratch), chunk * scratch.shape[1])
        grad_window, values = shifted(window, taps), shifted(window, 2 * taps)
        grad_w = shifted(address(partial_filters), chunk * count * taps)
        grad_b = shifted(address(partial_bias), chunk * count)
        for n in range(samples * chunk // chunks, samples * (chunk + 1) // chunks):
            for p in range(pixels):
                grad = shifted(address(grad_y), (n * pixels + p) * count)
                found = 0
                for f in range(count):
                    values[found] = grad[f]
                    numbers[found] = f
                    found += grad[f] != 0
                if found == 0:
                    continue
                start = n * height * row + windows[p]
                source, target = shifted(address(x), start), shifted(address(grad_x), start)
                for i in range(kernel_height):
                    for k in range(run):
                        window[i * run + k] = source[i * row + k]
                for k in range(0, taps, LANES):
                    store(grad_window, k, splat(np.float32(0)))
                for m in range(found):
                    f = numbers[m]
                    grad_b[f] += values[m]
                    value = splat(values[m])
                    for k in range(0, taps, LANES):
                        w = f * taps + k
                        store(grad_window, k, fma(value, load(address(by_filter), w), load(grad_window, k)))
                        store(grad_w, w, fma(value, load(window, k), load(grad_w, w)))
                for i in range(kernel_height):
                    for k in range(run):
                        target[i * row + k] += grad_window[i * run + k]
