"""The middle rung: numpy only. Every convolution becomes one matrix multiply, and no loop runs over pixels.

The idea has a name, im2col: write each window of the image as one row of a matrix ("image to columns", as the
first implementations stored them), and all the sums of products of a convolution are the product of that
matrix with the filters, which BLAS does near the processor's limit. The price is memory: each pixel is copied
once for every window it lies in, nine times for a 3x3 kernel. Its mirror image, col2im, adds each entry of
such a matrix back to the pixel it came from. Pooling's windows come and go the same way. (K. Chellapilla,
S. Puri, P. Simard, "High Performance Convolutional Neural Networks for Document Processing", 2006.)

Float64 arguments are computed in float64, all others in float32. The operations' arguments are documented in
`fastcnn.backends.reference`, with the sums written out; they raise `fastcnn.errors.ArgumentError`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from fastcnn.backends import checks

Array = NDArray[Any]

#: What a model keeps its weights in on this rung.
DTYPE = np.float32


Padding = tuple[tuple[int, int], tuple[int, int]]


def conv2d_forward(
    x: Array,
    filters: Array,
    bias: Array | None,
    strides: tuple[int, int] = (1, 1),
    padding: Padding = ((0, 0), (0, 0)),
) -> Array:
    """Convolve images with filters: the windows' matrix times the filters' matrix."""
    checks.conv2d(x, filters, bias, strides, padding)
    x, filters = _same_dtype(x, filters)
    count = filters.shape[3]
    windows = _im2col(x, filters.shape[:2], strides, padding)
    y = windows.reshape(-1, filters.size // count) @ filters.reshape(-1, count)
    if bias is not None:
        y += bias.astype(y.dtype)
    return y.reshape(*windows.shape[:3], count)


def conv2d_backward(
    grad_y: Array,
    x: Array,
    filters: Array,
    strides: tuple[int, int] = (1, 1),
    padding: Padding = ((0, 0), (0, 0)),
) -> tuple[Array, Array, Array]:
    """Return the gradients for the images, the filters and the bias: the forward product's two transposes."""
    checks.conv2d_backward(grad_y, x, filters, strides, padding)
    grad_y, x, filters = _same_dtype(grad_y, x, filters)
    count = filters.shape[3]
    grad_rows = grad_y.reshape(-1, count)
    windows = _im2col(x, filters.shape[:2], strides, padding)
    grad_filters = windows.reshape(len(grad_rows), -1).T @ grad_rows
    grad_windows = (grad_rows @ filters.reshape(-1, count).T).reshape(windows.shape)
    return (
        _col2im(grad_windows, x.shape, strides, padding),
        grad_filters.reshape(filters.shape),
        grad_rows.sum(axis=0),
    )


def _im2col(x: Array, window: Sequence[int], strides: Sequence[int], padding: Padding, outside: float = 0) -> Array:
    """Return every window of `x` (N, H, W, C), padded with `outside`: (N, OH, OW, height, width, C).

    The result is a read-only view, in which no pixel is copied; `reshape` then copies them.
    """
    if padding != ((0, 0), (0, 0)):
        x = np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=outside)
    windows = sliding_window_view(x, tuple(window), axis=(1, 2))  # N, OH, OW, C, height, width
    return windows[:, :: strides[0], :: strides[1]].transpose(0, 1, 2, 4, 5, 3)


def _col2im(windows: Array, input_shape: Sequence[int], strides: Sequence[int], padding: Padding) -> Array:
    """Add every element of the windows to the pixel it stands for: the transpose of `_im2col`."""
    samples, height, width, channels = input_shape
    (top, bottom), (left, right) = padding
    _, out_height, out_width, window_height, window_width, _ = windows.shape
    x = np.zeros((samples, top + height + bottom, left + width + right, channels), windows.dtype)
    for i in range(window_height):
        rows = slice(i, i + (out_height - 1) * strides[0] + 1, strides[0])
        for j in range(window_width):
            columns = slice(j, j + (out_width - 1) * strides[1] + 1, strides[1])
            x[:, rows, columns] += windows[:, :, :, i, j]
    return np.ascontiguousarray(x[:, top : top + height, left : left + width])


def maxpool2d_forward(
    x: Array,
    pool_size: tuple[int, int],
    ties: str,
    strides: tuple[int, int] | None = None,
    padding: Padding = ((0, 0), (0, 0)),
) -> tuple[Array, Array]:
    """Return the maximum of each window, and which of its elements receive the gradient."""
    checks.maxpool2d(x, pool_size, ties, strides, padding)
    (x,) = _same_dtype(x)
    windows = _im2col(x, pool_size, strides or pool_size, padding, outside=-math.inf)
    samples, out_height, out_width, *_, channels = windows.shape
    windows = windows.reshape(samples, out_height, out_width, -1, channels)
    y = windows.max(axis=3)
    winners = (windows == y[:, :, :, None]) | np.isnan(windows)
    winners &= _inside(x.shape, pool_size, strides or pool_size, padding).reshape(1, out_height, out_width, -1, 1)
    if ties == "first":
        first = winners.argmax(axis=3, keepdims=True)
        winners = np.zeros(windows.shape, np.bool_)
        np.put_along_axis(winners, first, True, axis=3)
    return y, winners


def maxpool2d_backward(
    grad_y: Array,
    winners: Array,
    input_shape: tuple[int, int, int, int],
    pool_size: tuple[int, int],
    strides: tuple[int, int] | None = None,
    padding: Padding = ((0, 0), (0, 0)),
) -> Array:
    """Return the gradient for the input: each winner has its window's whole gradient, all others zero."""
    checks.maxpool2d_backward(grad_y, winners, input_shape, pool_size, strides, padding)
    (grad_y,) = _same_dtype(grad_y)
    grads = np.where(winners, grad_y[:, :, :, None], grad_y.dtype.type(0))
    windows = grads.reshape(*grad_y.shape[:3], *pool_size, grad_y.shape[3])
    return _col2im(windows, input_shape, strides or pool_size, padding)


def avgpool2d_forward(
    x: Array,
    pool_size: tuple[int, int],
    strides: tuple[int, int] | None = None,
    padding: Padding = ((0, 0), (0, 0)),
) -> Array:
    """Return the average of each window's pixels, the padding not counted."""
    checks.avgpool2d(x, pool_size, strides, padding)
    (x,) = _same_dtype(x)
    y: Array = _im2col(x, pool_size, strides or pool_size, padding).sum(axis=(3, 4))
    y /= _pixels(x.shape, pool_size, strides or pool_size, padding)
    return y


def avgpool2d_backward(
    grad_y: Array,
    input_shape: tuple[int, int, int, int],
    pool_size: tuple[int, int],
    strides: tuple[int, int] | None = None,
    padding: Padding = ((0, 0), (0, 0)),
) -> Array:
    """Return the gradient for the input: each pixel has an equal share of each of its windows' gradients."""
    checks.avgpool2d_backward(grad_y, input_shape, pool_size, strides, padding)
    (grad_y,) = _same_dtype(grad_y)
    samples, out_height, out_width, channels = grad_y.shape
    shares = grad_y / _pixels(input_shape, pool_size, strides or pool_size, padding).astype(grad_y.dtype)
    windows = np.broadcast_to(
        shares[:, :, :, None, None], (samples, out_height, out_width, pool_size[0], pool_size[1], channels)
    )
    return _col2im(windows, input_shape, strides or pool_size, padding)


def _inside(
    input_shape: Sequence[int], window: Sequence[int], strides: Sequence[int], padding: Padding
) -> NDArray[np.bool_]:
    """Return which elements of each window are pixels and not padding, (1, OH, OW, height, width, 1)."""
    pixels = np.ones((1, input_shape[1], input_shape[2], 1), np.bool_)
    return _im2col(pixels, window, strides, padding, outside=False)


def _pixels(
    input_shape: Sequence[int], window: Sequence[int], strides: Sequence[int], padding: Padding
) -> NDArray[np.int64]:
    """Return how many pixels each window holds, (1, OH, OW, 1)."""
    counts: NDArray[np.int64] = _inside(input_shape, window, strides, padding).sum(axis=(3, 4), dtype=np.int64)
    return counts


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


def activation_forward(x: Array, name: str, slope: float = 0.0) -> Array:
    """Apply an activation to each element."""
    checks.activation(x, name, slope)
    (x,) = _same_dtype(x)
    y: Array
    if name == "relu":
        y = np.maximum(x, 0)
    elif name == "leaky_relu":
        y = np.where(x <= 0, x * x.dtype.type(slope), x)
    elif name == "sigmoid":
        y = _sigmoid(x)
    elif name == "tanh":
        y = np.tanh(x)
    else:
        y = (x * _normal_distribution(x)).astype(x.dtype)
    return y


def activation_backward(grad_y: Array, x: Array, name: str, slope: float = 0.0) -> Array:
    """Multiply the gradient with the activation's derivative at each element."""
    checks.activation_backward(grad_y, x, name, slope)
    grad_y, x = _same_dtype(grad_y, x)
    derivative: Array
    if name in ("relu", "leaky_relu"):
        derivative = np.where(x > 0, x.dtype.type(1), x.dtype.type(slope if name == "leaky_relu" else 0))
    elif name == "sigmoid":
        derivative = _sigmoid(x) * _sigmoid(-x)
    elif name == "tanh":
        derivative = 1 - np.square(np.tanh(x))
    else:
        density = np.exp(-np.square(x, dtype=np.float64) / 2) / math.sqrt(2 * math.pi)
        derivative = (_normal_distribution(x) + x * density).astype(x.dtype)
    return grad_y * derivative


def _sigmoid(x: Array) -> Array:
    """Return 1 / (1 + exp(-x)), from the exponential of -|x|, which can't overflow."""
    small = np.exp(-np.abs(x))
    y: Array = np.where(x < 0, small, x.dtype.type(1)) / (1 + small)
    return y


def _normal_distribution(x: Array) -> Array:
    """Return the standard normal distribution at x, in float64.

    The one loop in this file: numpy has no error function, so the standard library's takes the elements one by
    one.
    """
    values = [math.erfc(-value / math.sqrt(2)) / 2 for value in x.ravel().tolist()]
    return np.array(values).reshape(x.shape)


def batchnorm_forward(x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, epsilon: float) -> Array:
    """Normalise each channel with the given mean and variance, then scale and move it."""
    checks.batchnorm(x, gamma, beta, mean, variance, epsilon)
    x, gamma, beta, mean, variance = _same_dtype(x, gamma, beta, mean, variance)
    y: Array = (x - mean) * (gamma / np.sqrt(variance + x.dtype.type(epsilon))) + beta
    return y


def batchnorm_moments(x: Array) -> tuple[Array, Array]:
    """Return the mean and the biased variance of each channel, over all axes but the last."""
    checks.batchnorm_moments(x)
    (x,) = _same_dtype(x)
    rows = x.reshape(-1, x.shape[-1])
    mean = rows.mean(axis=0)
    return mean, np.square(rows - mean).mean(axis=0)


def batchnorm_backward(
    grad_y: Array, x: Array, gamma: Array, mean: Array, variance: Array, epsilon: float, training: bool
) -> tuple[Array, Array, Array]:
    """Return the gradients for x, gamma and beta; in training, mean and variance depend on x."""
    checks.batchnorm_backward(grad_y, x, gamma, mean, variance, epsilon, training)
    grad_y, x, gamma, mean, variance = _same_dtype(grad_y, x, gamma, mean, variance)
    grads, rows = grad_y.reshape(-1, x.shape[-1]), x.reshape(-1, x.shape[-1])
    inverse = 1 / np.sqrt(variance + x.dtype.type(epsilon))
    normalized = (rows - mean) * inverse
    grad_gamma, grad_beta = (grads * normalized).sum(axis=0), grads.sum(axis=0)
    grad_rows = grads
    if training:
        share = x.dtype.type(1 / len(rows))
        grad_rows = grads - grad_beta * share - normalized * (grad_gamma * share)
    return (grad_rows * (gamma * inverse)).reshape(x.shape), grad_gamma, grad_beta


def softmax(logits: Array) -> Array:
    """Return the probabilities of each row's classes."""
    checks.logits(logits)
    (logits,) = _same_dtype(logits)
    shifted, log_totals = _log_softmax(logits)
    probabilities: Array = np.exp(shifted - log_totals).astype(logits.dtype)
    return probabilities


def softmax_backward(grad_y: Array, y: Array) -> Array:
    """Return the gradient for the scores, given that for the probabilities `y`."""
    checks.softmax_backward(grad_y, y)
    grad_y, y = _same_dtype(grad_y, y)
    grad_x: Array = y * (grad_y - (grad_y * y).sum(axis=1, keepdims=True))
    return grad_x


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
    grad_logits = probabilities.copy()
    grad_logits[rows, labels] -= 1
    return _stored(losses, logits.dtype), probabilities.astype(logits.dtype), grad_logits.astype(logits.dtype)


def softmax_cross_entropy_soft(logits: Array, targets: Array) -> tuple[Array, Array, Array]:
    """Return what `softmax_cross_entropy` does, for targets (N, K) that weight the classes."""
    checks.logits(logits)
    checks.shape("targets", targets, logits.shape)
    logits, targets = _same_dtype(logits, targets)
    shifted, log_totals = _log_softmax(logits)
    probabilities = np.exp(shifted - log_totals)
    weights = targets.astype(np.float64)
    losses = (weights * (log_totals - shifted)).sum(axis=1)
    grad_logits = weights.sum(axis=1, keepdims=True) * probabilities - weights
    return _stored(losses, logits.dtype), probabilities.astype(logits.dtype), grad_logits.astype(logits.dtype)


def mean_squared_error(predictions: Array, targets: Array) -> tuple[Array, Array]:
    """Return each sample's mean squared difference, and the gradient of each for its predictions."""
    checks.mean_squared_error(predictions, targets)
    predictions, targets = _same_dtype(predictions, targets)
    differences = (predictions - targets).reshape(len(predictions), -1)
    losses: Array = np.square(differences).mean(axis=1)
    grad_predictions = (differences * differences.dtype.type(2 / differences.shape[1])).reshape(predictions.shape)
    return losses, grad_predictions


def _stored(losses: Array, dtype: Any) -> Array:
    """Return float64 losses in `dtype`, the finite ones no larger than its largest number."""
    np.minimum(losses, np.finfo(dtype).max, out=losses, where=np.isfinite(losses))
    return losses.astype(dtype)


def _log_softmax(logits: Array) -> tuple[Array, Array]:
    """Return log(softmax) in float64 as two terms: logits less their row's maximum, the log of the total."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    return shifted, np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _same_dtype(*arrays: Array) -> tuple[Array, ...]:
    """Return the arrays in float64 if one of them is, else in float32."""
    dtype = np.float64 if any(array.dtype == np.float64 for array in arrays) else np.float32
    return tuple(array.astype(dtype, copy=False) for array in arrays)
