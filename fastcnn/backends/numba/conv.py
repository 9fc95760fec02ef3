"""Convolution, forward and backward, on all cores.

* Forward is a direct convolution: eight output pixels and a vector of filters at a time in registers.
* The gradient for the images: four pixels of the gradient are multiplied with three vectors of the filters at a
  time, summed over the filters in registers, and the sums are added to the pixels' windows.
* The gradient for the filters is summed in registers, eight taps and a vector of filters at a time.

Samples are dealt to a number of chunks that depends on the shapes alone, each with its own gradients of the
filters, and these are added in order: the result does not depend on the threads. `conv_pool` is for a convolution
with 2x2 max-pooling behind it.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcnn.backends import checks
from fastcnn.backends.numba import conv_kernels as kernels
from fastcnn.backends.numba.packing import ROWS, FloatArray, Workspace, float32, in_vectors, padded_width, panels
from fastcnn.backends.numba.simd import LANES

#: Chunks of samples that have gradients of their own, at most; fewer where all of these would be more floats than this.
CHUNKS, _CHUNKS_FLOATS = 32, 1 << 19

EVERYTHING = np.zeros(0, np.float32)

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]
Frame = tuple[int, int, int, int]


def conv2d_forward(
    x: NDArray[Any],
    filters: NDArray[Any],
    bias: NDArray[Any] | None,
    strides: Pair = (1, 1),
    padding: Padding = ((0, 0), (0, 0)),
) -> FloatArray:
    """Convolve images with filters (which are not flipped).

    Args:
        x: images (N, H, W, C).
        filters: (kernel height, kernel width, C, F).
        bias: (F,), or None for none.
        strides: pixels from one window to the next, (down, right).
        padding: rows and columns of zeros added to the images, ((top, bottom), (left, right)).

    Returns:
        The filtered images (N, OH, OW, F), float32, with ``OH = (H + top + bottom - kernel height) // down + 1``
        and OW likewise.

    Raises:
        ArgumentError: an argument is of a wrong shape or kind, or the kernel is larger than the padded image.
    """
    checks.conv2d(x, filters, bias, strides, padding)
    return forward(float32(x), filters, bias, strides, padding, Workspace())


def conv2d_backward(
    grad_y: NDArray[Any],
    x: NDArray[Any],
    filters: NDArray[Any],
    strides: Pair = (1, 1),
    padding: Padding = ((0, 0), (0, 0)),
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the gradients of a convolution, summed over the batch.

    Args:
        grad_y: gradient for the convolution's output (N, OH, OW, F).
        x: images (N, H, W, C).
        filters: (kernel height, kernel width, C, F).
        strides: as in the forward pass.
        padding: as in the forward pass.

    Returns:
        The gradients for the images (N, H, W, C), the filters (kernel height, kernel width, C, F) and the
        bias (F,), float32.

    Raises:
        ArgumentError: an argument is of a wrong shape or kind, or the kernel is larger than the padded image.
    """
    checks.conv2d_backward(grad_y, x, filters, strides, padding)
    grad_y, x = float32(grad_y), float32(x)
    grad_x = input_gradient(grad_y, filters, x.shape, strides, padding)
    return grad_x, *filter_gradient(grad_y, x, filters.shape[:2], strides, padding)


def forward(
    x: FloatArray,
    filters: NDArray[Any],
    bias: NDArray[Any] | None,
    strides: Pair,
    padding: Padding,
    workspace: Workspace,
    least: float = -np.inf,
) -> FloatArray:
    """Return `conv2d_forward`'s result, but nothing less than `least` (0 for ReLU), in an array of the workspace."""
    height, width = checks.output_size(x.shape, filters.shape[:2], strides, padding)
    y = workspace.array("y", (len(x), height, width, filters.shape[3]))
    packed, start = packed_filters(filters), in_vectors(bias, filters.shape[3])
    frame = frame_of(x.shape, padding)
    scratch = workspace.array("forward", (min(len(x), CHUNKS), LANES + margin(x, frame)))
    windows = windows_of(y.shape, frame, strides, filters.shape[2])
    kernels.convolve(x, frame, packed, filters.shape[0], start, np.float32(least), windows, scratch, y)
    return y


def input_gradient(
    grad_y: FloatArray,
    filters: NDArray[Any],
    input_shape: tuple[int, ...],
    strides: Pair,
    padding: Padding,
    kept: FloatArray = EVERYTHING,
    workspace: Workspace | None = None,
) -> FloatArray:
    """Return the gradient for images of `input_shape`; with `kept`, gradients count only where that is positive."""
    workspace = workspace or Workspace()
    frame = frame_of(input_shape, padding)
    channels = input_shape[3]
    grouped, offsets = grouped_filters(filters, frame[1] * channels, kernels.WINDOW_GROUP)
    windows = windows_of(grad_y.shape, frame, strides, channels)
    grad_x = workspace.array("grad_x", input_shape)
    # A window's last vector may reach LANES floats behind the image.
    image = padded_width(frame[0] * frame[1] * channels + LANES)
    masked = padded_width(grad_y[0].size) if kept.size else 0
    scratch = workspace.array("windows", (min(len(grad_y), CHUNKS), image + masked))
    kernels.add_windows(grad_y, kept, frame, grouped, offsets, windows, scratch, grad_x)
    return grad_x


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


def filter_gradient(
    grad_y: FloatArray,
    x: FloatArray,
    kernel_size: Pair,
    strides: Pair,
    padding: Padding,
    kept: FloatArray = EVERYTHING,
    workspace: Workspace | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Return the gradients for filters and bias; with `kept`, gradients count only where that is positive."""
    workspace = workspace or Workspace()
    channels, count = x.shape[3], grad_y.shape[3]
    kernel_height, kernel_width = kernel_size
    frame = frame_of(x.shape, padding)
    offsets = windows_of((0, kernel_height, kernel_width * channels, 0), frame, (channels, 1), 1)
    taps, vectors = kernel_height * kernel_width * channels, padded_width(count) // LANES
    chunks = chunks_of(len(x), vectors * len(offsets) * LANES)
    out_width = grad_y.shape[2]
    packed = vectors * max(1, kernels.BLOCK_PIXELS // out_width) * out_width * LANES
    scratch = workspace.array("filter", (chunks, padded_width(packed + margin(x, frame))))
    partial_filters = workspace.array("grad_filters", (chunks, vectors, len(offsets), LANES))
    partial_bias = workspace.array("grad_bias", (chunks, vectors * LANES))
    partial_filters.fill(0)
    partial_bias.fill(0)
    steps = (int(strides[0]), int(strides[1]))
    kernels.filter_gradient(grad_y, kept, x, frame, steps, offsets, scratch, partial_filters, partial_bias)
    by_tap = partial_filters.sum(axis=0).swapaxes(0, 1).reshape(len(offsets), -1)
    grad_filters = np.ascontiguousarray(by_tap[:taps, :count]).reshape(kernel_height, kernel_width, channels, count)
    return grad_filters, partial_bias.sum(axis=0)[:count]


def packed_filters(filters: NDArray[Any]) -> FloatArray:
    """Return the filters (kernel height, kernel width, C, F) as `panels` cuts them."""
    return panels(float32(filters).reshape(-1, filters.shape[3]))


def frame_of(shape: tuple[int, ...], padding: Padding) -> Frame:
    """Return the frame of images with zeros around them: see `conv_kernels`."""
    _, height, width, _ = shape
    (top, bottom), (left, right) = padding
    return int(top + height + bottom), int(left + width + right), int(top), int(left)


def margin(x: FloatArray, frame: Frame) -> int:
    """Return the floats of one image's workspace, none where the image fills its frame."""
    _, height, width, channels = x.shape
    return 0 if frame == (height, width, 0, 0) else padded_width(frame[0] * frame[1] * channels)


@functools.lru_cache(maxsize=256)
def windows_of(output: tuple[int, ...], frame: Frame, strides: Pair, channels: int) -> NDArray[np.int64]:
    """Return where in the workspace each output pixel's window begins, filled up to a multiple of ROWS."""
    _, height, width, _ = output
    rows = np.arange(height)[:, None] * (strides[0] * frame[1])
    starts = (rows + np.arange(width) * strides[1]).ravel() * channels
    return np.pad(starts, (0, -len(starts) % ROWS), mode="edge").astype(np.int64)


def chunks_of(samples: int, private: int) -> int:
    """Return how many chunks `samples` are dealt to, each with `private` floats of its own."""
    chunks = CHUNKS
    while chunks > 8 and chunks * private > _CHUNKS_FLOATS:
        chunks //= 2
    return min(samples, chunks)
