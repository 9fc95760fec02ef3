"""Convolution, forward and backward, on all cores.

* Forward is a direct convolution, eight output pixels and a vector of filters at a time in registers; or `winograd`'s,
  in fewer multiplications, for 3x3 windows of many channels at stride 1.
* The gradient for the images is at stride 1 a convolution itself. At other strides four pixels of the gradient are
  multiplied with three vectors of the filters at a time, summed over the filters in registers, and the sums are added
  to the pixels' windows.
* The gradient for the filters is in `direct_gradient`, `winograd_gradient` and `winograd_channels`.

Work is dealt to tasks as the shapes alone decide, and what they sum is added in order: the result does not depend on
the threads. `pooled` is for a convolution with 2x2 max-pooling behind it.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcnn.backends import checks
from fastcnn.backends.numba.conv import (
    direct_gradient,
    kernels,
    winograd,
    winograd_channels,
    winograd_gradient,
    winograd_tiles,
)
from fastcnn.backends.numba.conv.filters import grouped_filters, packed_filters
from fastcnn.backends.numba.packing import EVERYTHING as EVERYTHING
from fastcnn.backends.numba.packing import ROWS, FloatArray, Workspace, float32, in_vectors, padded_width
from fastcnn.backends.numba.simd import LANES

#: Chunks of samples that have gradients of their own, at most; fewer where all of these would be more floats than this.
CHUNKS, _CHUNKS_FLOATS = 32, 1 << 19

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
    size = checks.output_size(x.shape, filters.shape[:2], strides, padding)
    y = workspace.array("y", (len(x), *size, filters.shape[3]), zeros=False)
    start = in_vectors(bias, filters.shape[3])
    _convolve(x, EVERYTHING, filters, False, start, least, strides, padding, workspace, y)
    return y


def _convolve(
    x: FloatArray,
    kept: FloatArray,
    filters: NDArray[Any],
    turned: bool,
    start: FloatArray,
    least: float,
    strides: Pair,
    padding: Padding,
    workspace: Workspace,
    y: FloatArray,
) -> None:
    """Fill `y` with the convolution with the filters as they are or `turned`, in the quicker of two ways."""
    kernel = (*filters.shape[:2], x.shape[3], y.shape[3])
    if uses_winograd(kernel, y.shape, strides):
        corner = (-padding[0][0], -padding[1][0])
        winograd.forward(x, filters, turned, start, least, corner, workspace, y, kept=kept)
        return
    frame = frame_of(x.shape, padding)
    image = padded_width(frame[0] * frame[1] * kernel[2]) if kept.size else margin(x, frame)
    # Not one for both: each has its own margins, which nobody clears.
    scratch = workspace.array("backward" if turned else "forward", (min(len(x), CHUNKS), ROWS * LANES + image))
    windows = windows_of(y.shape, frame, strides, kernel[2])
    packed = packed_filters(filters, turned)
    kernels.convolve(x, kept, frame, packed, taps_of(kernel, frame), start, np.float32(least), windows, scratch, y)


def uses_winograd(kernel: tuple[int, ...], output: tuple[int, ...], strides: Pair) -> bool:
    """Whether a convolution with filters of the shape `kernel` and results of the shape `output` is `winograd`'s."""
    return tuple(strides) == (1, 1) and winograd_tiles.pays(kernel, output, winograd.positions_of(output))


def uses_winograd_channels(kernel: tuple[int, ...], output: tuple[int, ...], strides: Pair) -> bool:
    """Whether the gradient for filters of the shape `kernel`, from one of the shape `output`, is that module's."""
    return tuple(strides) == (1, 1) and winograd_channels.pays(kernel, output)


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
    channels = filters.shape[2]
    grad_x = workspace.array("grad_x", input_shape, zeros=False)
    if is_turned(filters.shape, input_shape, grad_y.shape, strides, padding):
        around = _around(filters.shape, padding)
        start = in_vectors(None, channels)
        _convolve(grad_y, kept, filters, True, start, -np.inf, (1, 1), around, workspace, grad_x)
        return grad_x
    frame = frame_of(input_shape, padding)
    grouped, offsets = grouped_filters(filters, frame[1] * channels, kernels.WINDOW_GROUP)
    windows = windows_of(grad_y.shape, frame, strides, channels)
    # A window's last vector may reach LANES floats behind the image.
    image = padded_width(frame[0] * frame[1] * channels + LANES)
    masked = padded_width(grad_y[0].size) if kept.size else 0
    scratch = workspace.array("windows", (min(len(grad_y), CHUNKS), image + masked))
    kernels.add_windows(grad_y, kept, frame, grouped, offsets, windows, scratch, grad_x)
    return grad_x


def is_turned(
    filters_shape: tuple[int, ...], images: tuple[int, ...], output: tuple[int, ...], strides: Pair, padding: Padding
) -> bool:
    """Whether the gradient for images of a shape, from gradients of the shape `output`, is computed as a convolution.

    With stride 1 it is one: with the filters turned by 180 degrees, and margins so wide that each window holds a pixel
    of the gradient at least. But that multiplies for each pixel of the images, in vectors of channels; `add_windows`
    for each pixel of the gradient only, in vectors of a row of a window. It is the slower one by a tenth, and
    Winograd's convolution the quicker by more than two.
    """
    kernel_height, kernel_width, channels, count = filters_shape
    if tuple(strides) != (1, 1) or max(padding[0]) >= kernel_height or max(padding[1]) >= kernel_width:
        return False
    turned: float = images[1] * images[2] * kernel_height * kernel_width * padded_width(channels)
    if uses_winograd((kernel_height, kernel_width, count, channels), images, strides):
        turned *= 0.45
    return turned <= 1.1 * output[1] * output[2] * kernel_height * padded_width(kernel_width * channels)


def _around(filters_shape: tuple[int, ...], padding: Padding) -> Padding:
    """Return the margins of zeros around the gradient for a convolution with turned filters."""
    (top, bottom), (left, right) = padding
    rows, columns = filters_shape[0] - 1, filters_shape[1] - 1
    return (rows - top, rows - bottom), (columns - left, columns - right)


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
    kernel, frame = (*kernel_size, channels, count), frame_of(x.shape, padding)
    if uses_winograd(kernel, grad_y.shape, strides):
        return winograd_gradient.filter_gradient(grad_y, kept, x, (-frame[2], -frame[3]), workspace)
    if uses_winograd_channels(kernel, grad_y.shape, strides):
        return winograd_channels.filter_gradient(grad_y, kept, x, frame, workspace)
    offsets = taps_of((kernel_height, kernel_width, channels), frame, direct_gradient.TAPS)
    steps = (int(strides[0]), int(strides[1]))
    taps = kernel_height * kernel_width * channels
    grad_filters, grad_bias = direct_gradient.filter_gradient(grad_y, kept, x, frame, steps, offsets, taps, workspace)
    return grad_filters.reshape(*kernel_size, channels, count), grad_bias


def frame_of(shape: tuple[int, ...], padding: Padding) -> Frame:
    """Return the frame of images with zeros around them: see `kernels`."""
    _, height, width, _ = shape
    (top, bottom), (left, right) = padding
    return int(top + height + bottom), int(left + width + right), int(top), int(left)


def margin(x: FloatArray, frame: Frame) -> int:
    """Return the floats of one image's workspace, none where the image fills its frame."""
    _, height, width, channels = x.shape
    return 0 if frame == (height, width, 0, 0) else padded_width(frame[0] * frame[1] * channels)


@functools.lru_cache(maxsize=256)
def windows_of(
    output: tuple[int, ...], frame: Frame, strides: Pair, channels: int, group: int = ROWS
) -> NDArray[np.int64]:
    """Return where in the workspace each output pixel's window begins, filled up to a multiple of `group`."""
    _, height, width, _ = output
    rows = np.arange(height)[:, None] * (strides[0] * frame[1])
    starts = (rows + np.arange(width) * strides[1]).ravel() * channels
    return np.pad(starts, (0, -len(starts) % group), mode="edge").astype(np.int64)


def taps_of(kernel: tuple[int, ...], frame: Frame, group: int = ROWS) -> NDArray[np.int64]:
    """Return where in its window each tap of a kernel (height, width, C) is, filled up to a multiple of `group`."""
    height, width, channels = kernel[:3]
    return windows_of((0, height, width * channels, 0), frame, (channels, 1), 1, group)


def chunks_of(samples: int, private: int) -> int:
    """Return how many chunks `samples` are dealt to, each with `private` floats of its own."""
    chunks = CHUNKS
    while chunks > 8 and chunks * private > _CHUNKS_FLOATS:
        chunks //= 2
    return min(samples, chunks)
