"""The dense layer in loops."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.backends.reference.arrays import FloatArray, array


def dense_forward(x: ArrayLike, weights: ArrayLike, bias: ArrayLike | None) -> FloatArray:
    """Connect every input with every unit: ``y[n,u] = bias[u] + sum over d of x[n,d] * weights[d,u]``.

    Args:
        x: (N, D).
        weights: (D, U).
        bias: (U,), or None for none.

    Returns:
        (N, U).

    Raises:
        ValueError: the shapes do not fit each other.
    """
    x, weights = array("x", x, "N D"), array("weights", weights, "D U")
    N, D, U = _dense_sizes(x, weights)
    offsets = [0.0] * U if bias is None else array("bias", bias, "U", (U,)).tolist()
    inputs, matrix = x.tolist(), weights.tolist()
    y = np.empty((N, U))
    for n in range(N):
        for u in range(U):
            total = offsets[u]
            for d in range(D):
                total += inputs[n][d] * matrix[d][u]
            y[n, u] = total
    return y


def dense_backward(grad_y: ArrayLike, x: ArrayLike, weights: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Carry the gradient of a dense layer's output back to its inputs, weights and bias.

    ``grad_x[n,d] += grad_y[n,u] * weights[d,u]``
    ``grad_weights[d,u] += grad_y[n,u] * x[n,d]``
    ``grad_bias[u] += grad_y[n,u]``

    Args:
        grad_y: (N, U).
        x: the inputs of the forward pass (N, D).
        weights: (D, U).

    Returns:
        (grad_x, grad_weights, grad_bias), of the shapes of x, weights and (U,).

    Raises:
        ValueError: the shapes do not fit each other.
    """
    x, weights = array("x", x, "N D"), array("weights", weights, "D U")
    N, D, U = _dense_sizes(x, weights)
    grads = array("grad_y", grad_y, "N U", (N, U)).tolist()
    inputs, matrix = x.tolist(), weights.tolist()
    grad_inputs, grad_matrix = np.zeros((N, D)).tolist(), np.zeros((D, U)).tolist()
    grad_bias = np.zeros(U)
    for n in range(N):
        for u in range(U):
            grad = grads[n][u]
            grad_bias[u] += grad
            for d in range(D):
                grad_inputs[n][d] += grad * matrix[d][u]
                grad_matrix[d][u] += grad * inputs[n][d]
    return np.array(grad_inputs), np.array(grad_matrix), grad_bias


def _dense_sizes(x: FloatArray, weights: FloatArray) -> tuple[int, int, int]:
    (N, D), (inputs, U) = x.shape, weights.shape
    if inputs != D:
        raise ValueError(f"weights has shape {weights.shape}; it must be ({D}, any number)")
    return N, D, U
