"""Batch normalisation in loops (S. Ioffe, C. Szegedy, "Batch Normalization", 2015): each channel by itself.

The M numbers of a channel, from all samples and pixels, are brought to mean 0 and variance 1, then scaled by
gamma and moved by beta, which are learned.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.backends.reference.arrays import FloatArray, array


def batchnorm_forward(
    x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, mean: ArrayLike, variance: ArrayLike, epsilon: float
) -> FloatArray:
    """Normalise each channel: ``y[m,c] = gamma[c] * (x[m,c] - mean[c]) / sqrt(variance[c] + epsilon) + beta[c]``.

    Args:
        x: (..., C); m counts all axes but the last.
        gamma, beta: (C,), the scale and the offset.
        mean, variance: (C,), of this batch in training, the moving averages else.
        epsilon: keeps the root away from zero; Keras' default is 0.001.

    Returns:
        The shape of x.

    Raises:
        ValueError: the shapes do not fit each other.
    """
    x = array("x", x, "... M C")
    C = x.shape[-1]
    scales, offsets, means = _vector("gamma", gamma, C), _vector("beta", beta, C), _vector("mean", mean, C)
    variances = _vector("variance", variance, C)
    rows = x.reshape(-1, C).tolist()
    y = np.empty((len(rows), C))
    for m in range(len(rows)):
        for c in range(C):
            y[m, c] = scales[c] * (rows[m][c] - means[c]) / math.sqrt(variances[c] + epsilon) + offsets[c]
    return y.reshape(x.shape)


def batchnorm_moments(x: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Average each channel, then average the squared distances from that.

    ``mean[c] = sum over m of x[m,c] / M``
    ``variance[c] = sum over m of (x[m,c] - mean[c])^2 / M``

    In two passes: the mean of the squares less the square of the mean would be the same number, and lose its
    digits wherever the mean is large.

    Args:
        x: (..., C); m counts all axes but the last.

    Returns:
        (mean, variance), both (C,). The variance is the biased one, divided by M.

    Raises:
        ValueError: x has fewer than two axes or is empty.
    """
    x = array("x", x, "... M C")
    rows = x.reshape(-1, x.shape[-1]).tolist()
    M, C = len(rows), x.shape[-1]
    mean, variance = np.empty(C), np.empty(C)
    for c in range(C):
        total = 0.0
        for m in range(M):
            total += rows[m][c]
        center = total / M
        squares = 0.0
        for m in range(M):
            squares += (rows[m][c] - center) ** 2
        mean[c], variance[c] = center, squares / M
    return mean, variance


def batchnorm_backward(
    grad_y: ArrayLike,
    x: ArrayLike,
    gamma: ArrayLike,
    mean: ArrayLike,
    variance: ArrayLike,
    epsilon: float,
    training: bool,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Carry the gradient of the normalised numbers back to x, gamma and beta.

    With ``xhat[m,c] = (x[m,c] - mean[c]) / sqrt(variance[c] + epsilon)``:

    ``grad_beta[c] = sum over m of grad_y[m,c]``
    ``grad_gamma[c] = sum over m of grad_y[m,c] * xhat[m,c]``

    Where mean and variance are constants, ``grad_x = grad_y * gamma / sqrt(variance + epsilon)``. In training
    they are x's own, and each x moves them too, which takes off ("Batch Normalization", section 3, the
    chain rule there worked out)

    ``grad_x[m,c] = gamma[c] / sqrt(variance[c] + epsilon)
    * (grad_y[m,c] - grad_beta[c] / M - xhat[m,c] * grad_gamma[c] / M)``

    Args:
        grad_y: the shape of x.
        x: what was normalised (..., C); m counts all axes but the last.
        gamma: (C,).
        mean, variance: (C,), as `batchnorm_forward` was given them.
        epsilon: as there.
        training: whether mean and variance are those of x and depend on it.

    Returns:
        (grad_x, grad_gamma, grad_beta), of the shapes of x, (C,) and (C,).

    Raises:
        ValueError: the shapes do not fit each other.
    """
    x = array("x", x, "... M C")
    C = x.shape[-1]
    scales, means, variances = _vector("gamma", gamma, C), _vector("mean", mean, C), _vector("variance", variance, C)
    grads = array("grad_y", grad_y, "... M C", x.shape).reshape(-1, C).tolist()
    rows = x.reshape(-1, C).tolist()
    M = len(rows)
    grad_x, grad_gamma, grad_beta = np.empty((M, C)), np.zeros(C), np.zeros(C)
    for c in range(C):
        deviation = math.sqrt(variances[c] + epsilon)
        for m in range(M):
            grad_beta[c] += grads[m][c]
            grad_gamma[c] += grads[m][c] * (rows[m][c] - means[c]) / deviation
        for m in range(M):
            grad = grads[m][c]
            if training:
                grad -= grad_beta[c] / M + (rows[m][c] - means[c]) / deviation * grad_gamma[c] / M
            grad_x[m, c] = grad * scales[c] / deviation
    return grad_x.reshape(x.shape), grad_gamma, grad_beta


def _vector(name: str, values: ArrayLike, channels: int) -> list[float]:
    numbers: list[float] = array(name, values, "C", (channels,)).tolist()
    return numbers
