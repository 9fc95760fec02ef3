"""The activations in loops: one function of one number, applied to each element, and its derivative."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.backends.reference.arrays import FloatArray, array

_NAMES = ("relu", "leaky_relu", "sigmoid", "tanh", "gelu")


def activation_forward(x: ArrayLike, name: str, slope: float = 0.0) -> FloatArray:
    """Apply an activation to each element.

    ============== ==================================================================================
    ``relu``       ``max(x, 0)``
    ``leaky_relu`` ``x`` where x > 0, ``slope * x`` elsewhere
    ``sigmoid``    ``1 / (1 + exp(-x))``
    ``tanh``       ``(exp(x) - exp(-x)) / (exp(x) + exp(-x))``
    ``gelu``       ``x * Phi(x)``, Phi the standard normal distribution, ``(1 + erf(x / sqrt(2))) / 2``
                   (D. Hendrycks, K. Gimpel, "Gaussian Error Linear Units", 2016; the exact form)
    ============== ==================================================================================

    Args:
        x: any shape.
        name: one of the names above.
        slope: of ``leaky_relu``; the others ignore it.

    Returns:
        The shape of x. A NaN stays one.

    Raises:
        ValueError: the name is another, or x is empty.
    """
    x = array("x", x, "...")
    _check(name)
    y = np.empty(x.size)
    for i, value in enumerate(x.ravel().tolist()):
        if name == "relu":
            y[i] = 0.0 if value <= 0 else value
        elif name == "leaky_relu":
            y[i] = slope * value if value <= 0 else value
        elif name == "sigmoid":
            y[i] = _sigmoid(value)
        elif name == "tanh":
            y[i] = math.tanh(value)
        else:
            y[i] = value * _normal_distribution(value)
    return y.reshape(x.shape)


def activation_backward(grad_y: ArrayLike, x: ArrayLike, name: str, slope: float = 0.0) -> FloatArray:
    """Multiply the gradient with the activation's derivative at each element.

    ============== ==================================================================================
    ``relu``       1 where x > 0, 0 elsewhere
    ``leaky_relu`` 1 where x > 0, slope elsewhere
    ``sigmoid``    ``s * (1 - s)``, s the sigmoid of x
    ``tanh``       ``1 - t^2``, t the tanh of x
    ``gelu``       ``Phi(x) + x * phi(x)``, phi the normal density ``exp(-x^2 / 2) / sqrt(2 pi)``
    ============== ==================================================================================

    Args:
        grad_y: the shape of x.
        x: what `activation_forward` was given.
        name: as there.
        slope: as there.

    Returns:
        grad_x, the shape of x.

    Raises:
        ValueError: the name is another, or the shapes differ.
    """
    x = array("x", x, "...")
    _check(name)
    grads = array("grad_y", grad_y, "...", x.shape).ravel().tolist()
    grad_x = np.empty(x.size)
    for i, value in enumerate(x.ravel().tolist()):
        if name == "relu":
            derivative = 1.0 if value > 0 else 0.0
        elif name == "leaky_relu":
            derivative = 1.0 if value > 0 else slope
        elif name == "sigmoid":
            derivative = _sigmoid(value) * _sigmoid(-value)  # 1 - s, without the cancellation
        elif name == "tanh":
            derivative = 1.0 - math.tanh(value) ** 2
        else:
            density = math.exp(-value * value / 2) / math.sqrt(2 * math.pi)
            derivative = _normal_distribution(value) + value * density
        grad_x[i] = grads[i] * derivative
    return grad_x.reshape(x.shape)


def _sigmoid(value: float) -> float:
    """1 / (1 + exp(-value)), with the fraction expanded where that exponential could overflow."""
    if value < 0:
        return math.exp(value) / (1.0 + math.exp(value))
    return 1.0 / (1.0 + math.exp(-value))


def _normal_distribution(value: float) -> float:
    """(1 + erf(value / sqrt(2))) / 2, by way of erfc, which keeps its digits where erf is near -1."""
    return math.erfc(-value / math.sqrt(2)) / 2


def _check(name: str) -> None:
    if name not in _NAMES:
        raise ValueError(f"name is {name!r}; it must be one of {', '.join(map(repr, _NAMES))}")
