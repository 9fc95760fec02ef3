"""The filters' gradient of a pooled convolution whose windows are short and whose images need no gradient.

That is what a network's first layer is: 25 taps of a 5x5 filter on grey images. There, listing the gradients that
are not zero, as `pooled` does, costs more than multiplying them all. Here the windows are copied, block by block, to
whole vectors in the first-level cache; then two vectors of one filter's gradient stay in registers while the block's
gradients go by, each picking the window of its pixel. For 5x5x1 to 24 filters that takes
half of the time where half of the gradients are zero, and 0.3 of it where none is.
"""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from fastcnn.backends.numba.conv.kernels import place
from fastcnn.backends.numba.conv.operations import Frame, chunks_of
from fastcnn.backends.numba.conv.pooled_vectors import copy_half
from fastcnn.backends.numba.jit import jit_part, parallel_jit
from fastcnn.backends.numba.packing import FloatArray, Workspace, padded_width
from fastcnn.backends.numba.simd import LANES, above, address, fma, load, select, shifted, splat, store

#: Vectors of a filter's gradient in registers; and maxima in a block, whose windows are 16 KB if they are that long.
_VECTORS, _BLOCK = 2, 32

#: Up to how many vectors a window is short.
_SHORT = 4


def is_short(kernel_height: int, run: int) -> bool:
    """Whether this module's way is the quicker for windows of so many rows, each of `run` floats."""
    return run <= LANES and padded_width(kernel_height * run) <= _SHORT * LANES


def filter_gradient(
    grad_y: FloatArray,
    y: FloatArray,
    winners: NDArray[np.uint8],
    x: FloatArray,
    kernel_height: int,
    run: int,
    frame: Frame,
    windows: NDArray[np.int64],
    relu: bool,
    workspace: Workspace,
) -> tuple[FloatArray, FloatArray]:
    """Return the gradients for the filters (kernel height * run, F) and the bias (F,), summed over the batch.

    Args:
        grad_y, y, winners, x, relu, workspace: as for `pooled.conv_pool_backward`.
        kernel_height, run: rows of a window, and floats in each.
        frame: where the images lie in their margin.
        windows: where in the frame the four windows of each maximum begin.
    """
    count, length = grad_y.shape[3], kernel_height * run
    step = -(-length // (_VECTORS * LANES)) * _VECTORS * LANES
    size = padded_width(frame[0] * frame[1] * x.shape[3] + LANES)
    chunks = chunks_of(len(x), count * step)
    scratch = workspace.array("short", (chunks, size + 4 * _BLOCK * step + LANES + padded_width(_BLOCK * count)))
    partial_filters = workspace.array("grad_filters", (chunks, count, step))
    partial_bias = workspace.array("grad_bias", (chunks, count))
    partial_filters.fill(0)
    partial_bias.fill(0)
    _backward(
        grad_y, y, relu, winners, x, frame, windows, kernel_height, run, size, scratch, partial_filters, partial_bias
    )
    return partial_filters.sum(axis=0)[:, :length].T, partial_bias.sum(axis=0)


@jit_part
def _copy_windows(image, windows, count, kernel_height, row, run, step, copied):
    """Copy windows to `step` floats each; what is behind a window's last float has no meaning."""
    if run <= LANES // 2:  # whole vectors would mostly straddle two cache lines: half of them, less often
        for j in range(count):
            for i in range(kernel_height):
                copy_half(copied, j * step + i * run, image, windows[j] + i * row)
    else:
        for j in range(count):
            for i in range(kernel_height):
                store(copied, j * step + i * run, load(image, windows[j] + i * row))


@jit_part
def _mask(grad, y, passes, length, masked):
    """Copy `grad`, zero where ReLU let nothing pass."""
    whole = length // LANES * LANES
    zero = splat(np.float32(0))
    for k in range(0, whole, LANES):
        value = load(grad, k)
        store(masked, k, value if passes else select(above(load(y, k), zero), value, zero))
    for k in range(whole, length):
        masked[k] = grad[k] if (y[k] > 0) | passes else np.float32(0)


@jit_part
def _add_block(grad, winners, count, stride, pixels, copied, step, grad_w, grad_b):
    """Add to every filter's gradient what `pixels` maxima give."""
    for f in range(count):
        bias_0, bias_1 = np.float32(0), np.float32(0)
        for part in range(0, step, _VECTORS * LANES):
            to = f * step + part
            a0, a1 = load(grad_w, to), load(grad_w, to + LANES)
            b0, b1 = splat(np.float32(0)), splat(np.float32(0))
            bias_0, bias_1 = np.float32(0), np.float32(0)
            for p in range(0, pixels - 1, 2):  # two at a time: sums of their own hide the latency of `fma`
                at, next_at = p * count + f, (p + 1) * count + f
                value = grad[at]
                window = shifted(copied, (4 * p + np.intp(winners[p * stride + f])) * step + part)
                next_value = grad[next_at]
                next_winner = np.intp(winners[(p + 1) * stride + f])
                next_window = shifted(copied, (4 * p + 4 + next_winner) * step + part)
                a0, a1 = fma(splat(value), load(window, 0), a0), fma(splat(value), load(window, LANES), a1)
                b0 = fma(splat(next_value), load(next_window, 0), b0)
                b1 = fma(splat(next_value), load(next_window, LANES), b1)
                bias_0 += value
                bias_1 += next_value
            if pixels % 2:
                p = pixels - 1
                at = p * count + f
                value = grad[at]
                window = shifted(copied, (4 * p + np.intp(winners[p * stride + f])) * step + part)
                a0, a1 = fma(splat(value), load(window, 0), a0), fma(splat(value), load(window, LANES), a1)
                bias_0 += value
            one = splat(np.float32(1))
            store(grad_w, to, fma(b0, one, a0))
            store(grad_w, to + LANES, fma(b1, one, a1))
        grad_b[f] += bias_0 + bias_1


@parallel_jit
def _backward(
    grad_y, y, relu, winners, x, frame, windows, kernel_height, run, size, scratch, partial_filters, partial_bias
):
    """Add to each chunk's gradients of the filters and the bias what its samples give."""
    samples, height, width, channels = x.shape
    pixels, count = grad_y.shape[1] * grad_y.shape[2], grad_y.shape[3]
    chunks, step = partial_filters.shape[0], partial_filters.shape[2]
    stride = winners.shape[3]
    for chunk_index in prange(chunks):
        chunk = np.intp(chunk_index)
        work = shifted(address(scratch), chunk * scratch.shape[1])
        copied = shifted(work, size)
        masked = shifted(copied, 4 * _BLOCK * step + LANES)
        for n in range(samples * chunk // chunks, samples * (chunk + 1) // chunks):
            place(shifted(address(x), n * height * width * channels), height, width, channels, frame, work)
            for first in range(0, pixels, _BLOCK):
                block = min(_BLOCK, pixels - first)
                p = n * pixels + first
                starts, row = shifted(address(windows), 4 * first), frame[1] * channels
                _copy_windows(work, starts, 4 * block, kernel_height, row, run, step, copied)
                grad, maxima = shifted(address(grad_y), p * count), shifted(address(y), p * count)
                _mask(grad, maxima, not relu, block * count, masked)
                _add_block(
                    masked,
                    shifted(address(winners), p * stride),
                    count,
                    stride,
                    block,
                    copied,
                    step,
                    shifted(address(partial_filters), chunk * count * step),
                    shifted(address(partial_bias), chunk * count),
                )
