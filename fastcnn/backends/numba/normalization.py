"""Batch normalization over the last axis. Sums are taken in double precision: a mean is far from its deviations.

Rows are dealt to a number of chunks that depends on the batch alone, and their sums are added in order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from fastcnn.backends import checks
from fastcnn.backends.numba.jit import parallel_jit
from fastcnn.backends.numba.packing import FloatArray, float32

_CHUNKS = 32
_TASK = 4096  # elements, about
_Doubles = NDArray[np.float64]


def batchnorm_forward(
    x: NDArray[Any],
    gamma: NDArray[Any],
    beta: NDArray[Any],
    mean: NDArray[Any],
    variance: NDArray[Any],
    epsilon: float,
) -> FloatArray:
    """Return ``gamma * (x - mean) / sqrt(variance + epsilon) + beta``, channel by channel.

    Args:
        x: (..., C).
        gamma: (C,).
        beta: (C,).
        mean: (C,).
        variance: (C,).
        epsilon: added to the variance.

    Returns:
        The normalized values (..., C), float32.

    Raises:
        ArgumentError: an argument is of a wrong shape or kind.
    """
    checks.batchnorm(x, gamma, beta, mean, variance, epsilon)
    return _scaled(x, _doubles(mean), _doubles(gamma) * _inverse(variance, epsilon), _doubles(beta))


def batchnorm_moments(x: NDArray[Any]) -> tuple[FloatArray, FloatArray]:
    """Return each channel's mean and its variance: the mean of the squared deviations from it.

    Args:
        x: (..., C).

    Returns:
        The means (C,) and the variances (C,), float32.

    Raises:
        ArgumentError: `x` is of a wrong shape or kind.
    """
    checks.batchnorm_moments(x)
    rows = _rows(x)
    zero = np.zeros(rows.shape[1])
    mean = _sums(rows, zero, rows, zero)[0] / len(rows)
    return mean.astype(np.float32), (_sums(rows, mean, rows, mean)[1] / len(rows)).astype(np.float32)


def batchnorm_backward(
    grad_y: NDArray[Any],
    x: NDArray[Any],
    gamma: NDArray[Any],
    mean: NDArray[Any],
    variance: NDArray[Any],
    epsilon: float,
    training: bool,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the gradients of a batch normalization (Ioffe and Szegedy, arXiv:1502.03167, section 3).

    Args:
        grad_y: gradient for the normalized values (..., C).
        x: (..., C).
        gamma: (C,).
        mean: (C,).
        variance: (C,).
        epsilon: as in the forward pass.
        training: whether `mean` and `variance` are those of `x` and change with it, or constants.

    Returns:
        The gradients for `x` (..., C), gamma (C,) and beta (C,), float32.

    Raises:
        ArgumentError: an argument is of a wrong shape or kind.
    """
    checks.batchnorm_backward(grad_y, x, gamma, mean, variance, epsilon, training)
    grads, rows, center = _rows(grad_y), _rows(x), _doubles(mean)
    zero, inverse = np.zeros(len(center)), _inverse(variance, epsilon)
    scale = _doubles(gamma) * inverse
    grad_beta, product = _sums(grads, zero, rows, center)
    grad_gamma = product * inverse
    if training:
        grad_x = np.empty_like(rows)
        pull = scale * inverse * grad_gamma / len(rows)
        _centered(grads, grad_beta / len(rows), scale, rows, center, pull, grad_x)
        grad_x = grad_x.reshape(x.shape)
    else:
        grad_x = _scaled(grad_y, zero, scale, zero)
    return grad_x, grad_gamma.astype(np.float32), grad_beta.astype(np.float32)


def _rows(x: NDArray[Any]) -> FloatArray:
    return float32(x).reshape(-1, x.shape[-1])


def _doubles(vector: NDArray[Any]) -> _Doubles:
    return np.array(vector, np.float64)


def _inverse(variance: NDArray[Any], epsilon: float) -> _Doubles:
    return np.asarray(1 / np.sqrt(_doubles(variance) + epsilon))


def _sums(a: FloatArray, shift_a: _Doubles, b: FloatArray, shift_b: _Doubles) -> _Doubles:
    """Return, for each column, the sums of ``a - shift_a`` and of ``(a - shift_a) * (b - shift_b)``: (2, C)."""
    partial = np.zeros((min(len(a), _CHUNKS), 2, a.shape[1]))
    _add(a, shift_a, b, shift_b, partial)
    return np.asarray(partial.sum(axis=0))


def _scaled(x: NDArray[Any], shift: _Doubles, scale: _Doubles, offset: _Doubles) -> FloatArray:
    y = np.empty(x.shape, np.float32)
    _scale(_rows(x), shift, scale, offset, y.reshape(-1, x.shape[-1]))
    return y


@parallel_jit
def _add(a, shift_a, b, shift_b, partial):
    rows, channels = a.shape
    chunks = len(partial)
    for chunk_index in prange(chunks):
        chunk = np.intp(chunk_index)
        for r in range(rows * chunk // chunks, rows * (chunk + 1) // chunks):
            for c in range(channels):
                value = a[r, c] - shift_a[c]
                partial[chunk, 0, c] += value
                partial[chunk, 1, c] += value * (b[r, c] - shift_b[c])


@parallel_jit
def _scale(x, shift, scale, offset, y):
    rows, channels = x.shape
    task_rows = max(1, _TASK // channels)
    for task_index in prange((rows + task_rows - 1) // task_rows):
        task = np.intp(task_index)
        for r in range(task * task_rows, min((task + 1) * task_rows, rows)):
            for c in range(channels):
                y[r, c] = (x[r, c] - shift[c]) * scale[c] + offset[c]


@parallel_jit
def _centered(grad, mean_grad, scale, x, mean, pull, grad_x):
    rows, channels = x.shape
    task_rows = max(1, _TASK // channels)
    for task_index in prange((rows + task_rows - 1) // task_rows):
        task = np.intp(task_index)
        for r in range(task * task_rows, min((task + 1) * task_rows, rows)):
            for c in range(channels):
                grad_x[r, c] = (grad[r, c] - mean_grad[c]) * scale[c] - (x[r, c] - mean[c]) * pull[c]
