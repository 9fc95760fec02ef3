"""The middle rung: numpy only. Every convolution becomes one matrix multiply, and no loop runs over pixels.

The idea has a name, im2col: write each window of the image as one row of a matrix ("image to columns", as the
first implementations stored them), and all the sums of products of a convolution are the product of that
matrix with the filters, which BLAS does near the processor's limit. The price is memory: each pixel is copied
once for every window it lies in, nine times for a 3x3 kernel. Its mirror image, col2im, adds each entry of
such a matrix back to the pixel it came from. (K. Chellapilla, S. Puri, P. Simard, "High Performance
Convolutional Neural Networks for Document Processing", 2006.)

Float64 arguments are computed in float64, all others in float32. The operations' arguments are documented in
`fastcnn.backends.reference`, with the sums written out; they raise `fastcnn.errors.ArgumentError`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from fastcnn.backends import checks

Array = NDArray[Any]

#: What a model keeps its weights in on this rung.
DTYPE = np.float32


def conv2d_forward(x: Array, filters: Array, bias: Array | None) -> Array:
    """Convolve images with filters: the windows' matrix times the filters' matrix."""
    checks.conv2d(x, filters, bias)
    x, filters = _same_dtype(x, filters)
    samples, height, width, _ = x.shape
    kernel_height, kernel_width, _, count = filters.shape
    y = _im2col(x, kernel_height, kernel_width) @ filters.reshape(-1, count)
    if bias is not None:
        y += bias.astype(y.dtype)
    return y.reshape(samples, height - kernel_height + 1, width - kernel_width + 1, count)


def conv2d_backward(grad_y: Array, x: Array, filters: Array) -> tuple[Array, Array, Array]:
    """Return the gradients for the images, the filters and the bias: the forward product's two transposes."""
    checks.conv2d_backward(grad_y, x, filters)
    grad_y, x, filters = _same_dtype(grad_y, x, filters)
    kernel_height, kernel_width, _, count = filters.shape
    grad_rows = grad_y.reshape(-1, count)
    grad_filters = _im2col(x, kernel_height, kernel_width).T @ grad_rows
    grad_windows = grad_rows @ filters.reshape(-1, count).T
    return (
        _col2im(grad_windows, x.shape, kernel_height, kernel_width),
        grad_filters.reshape(filters.shape),
        grad_rows.sum(axis=0),
    )


def _im2col(x: Array, kernel_height: int, kernel_width: int) -> Array:
    """Return every window of `x` (N, H, W, C) as a row, (N * OH * OW, kernel_height * kernel_width * C)."""
    windows = sliding_window_view(x, (kernel_height, kernel_width), axis=(1, 2))  # N, OH, OW, C, kh, kw
    channels_last = windows.transpose(0, 1, 2, 4, 5, 3)
    return channels_last.reshape(-1, kernel_height * kernel_width * x.shape[3])


def _col2im(rows: Array, input_shape: tuple[int, ...], kernel_height: int, kernel_width: int) -> Array:
    """Add every entry of the windows' matrix to the pixel it stands for: the transpose of `_im2col`."""
    samples, height, width, channels = input_shape
    out_height, out_width = height - kernel_height + 1, width - kernel_width + 1
    windows = rows.reshape(samples, out_height, out_width, kernel_height, kernel_width, channels)
    x = np.zeros(input_shape, rows.dtype)
    for i in range(kernel_height):
        for j in range(kernel_width):
            x[:, i : i + out_height, j : j + out_width] += windows[:, :, :, i, j]
    return x


def maxpool2d_forward(x: Array, pool_size: tuple[int, int], ties: str) -> tuple[Array, Array]:
    """Return the maximum of each window, and which of its elements receive the gradient."""
    checks.maxpool2d(x, pool_size, ties)
    (x,) = _same_dtype(x)
    samples, height, width, channels = x.shape
    pool_height, pool_width = pool_size
    out_height, out_width = height // pool_height, width // pool_width
    windows = (
        x[:, : out_height * pool_height, : out_width * pool_width]
        .reshape(samples, out_height, pool_height, out_width, pool_width, channels)
        .swapaxes(2, 3)
        .reshape(samples, out_height, out_width, pool_height * pool_width, channels)
    )
    y = windows.max(axis=3)
    if ties == "all":
        winners = (windows == y[:, :, :, None]) | np.isnan(windows)
    else:
        winners = np.zeros(windows.shape, np.bool_)
        np.put_along_axis(winners, windows.argmax(axis=3, keepdims=True), True, axis=3)
    return y, winners


def maxpool2d_backward(
    grad_y: Array, winners: Array, input_shape: tuple[int, int, int, int], pool_size: tuple[int, int]
) -> Array:
    """Return the gradient for the input: each winner has its window's whole gradient, all others zero."""
    checks.maxpool2d_backward(grad_y, winners, input_shape, pool_size)
    (grad_y,) = _same_dtype(grad_y)
    samples, out_height, out_width, channels = grad_y.shape
    pool_height, pool_width = pool_size
    grad_x = np.zeros(input_shape, grad_y.dtype)
    grad_x[:, : out_height * pool_height, : out_width * pool_width] = (
        np.where(winners, grad_y[:, :, :, None], 0)
        .reshape(samples, out_height, out_width, pool_height, pool_width, channels)
        .swapaxes(2, 3)
        .reshape(samples, out_height * pool_height, out_width * pool_width, channels)
    )
    return grad_x


def dense_forward(x: Array, weights: Array, bias: Array | None) -> Array:
    """Multiply a batch of vectors with the weights."""
    checks.dense(x, weights, bias)
    x, weights = _same_dtype(x, weights)
    y: Array = x @ weights
    if bias is not None:
        y += bias.astype(y.dtype)
    return y


def dense_backward(grad_y: Array, x: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Return the gradients for the input, the weights and the bias."""
    checks.dense_backward(grad_y, x, weights)
    grad_y, x, weights = _same_dtype(grad_y, x, weights)
    return grad_y @ weights.T, x.T @ grad_y, grad_y.sum(axis=0)


def softmax(logits: Array) -> Array:
    """Return the probabilities of each row's classes."""
    checks.logits(logits)
    (logits,) = _same_dtype(logits)
    shifted, log_totals = _log_softmax(logits)
    probabilities: Array = np.exp(shifted - log_totals).astype(logits.dtype)
    return probabilities


def softmax_cross_entropy(logits: Array, labels: Array) -> tuple[Array, Array, Array]:
    """Return each sample's loss, the probabilities, and the gradient of each loss for the logits.

    A loss beyond the largest float32 is given as that, so that finite logits have finite losses.
    """
    checks.logits(logits)
    checks.labels(labels, *logits.shape)
    (logits,) = _same_dtype(logits)
    shifted, log_totals = _log_softmax(logits)
    probabilities = np.exp(shifted - log_totals)
    rows = np.arange(len(labels))
    losses = log_totals[:, 0] - shifted[rows, labels]
    np.minimum(losses, np.finfo(logits.dtype).max, out=losses, where=np.isfinite(losses))
    grad_logits = probabilities.copy()
    grad_logits[rows, labels] -= 1
    return losses.astype(logits.dtype), probabilities.astype(logits.dtype), grad_logits.astype(logits.dtype)


def _log_softmax(logits: Array) -> tuple[Array, Array]:
    """Return log(softmax) in float64 as two terms: logits less their row's maximum, the log of the total."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    return shifted, np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _same_dtype(*arrays: Array) -> tuple[Array, ...]:
    """Return the arrays in float64 if one of them is, else in float32."""
    dtype = np.float64 if any(array.dtype == np.float64 for array in arrays) else np.float32
    return tuple(array.astype(dtype, copy=False) for array in arrays)
