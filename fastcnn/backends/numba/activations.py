"""Activation functions, element by element; what needs an exponential is computed in double precision inside."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from fastcnn.backends import checks
from fastcnn.backends.numba.jit import parallel_jit
from fastcnn.backends.numba.packing import FloatArray, float32
from fastcnn.backends.numba.parts import part, parts_of

_RELU, _LEAKY_RELU, _SIGMOID, _TANH, _GELU = range(5)
_NUMBERS = {"relu": _RELU, "leaky_relu": _LEAKY_RELU, "sigmoid": _SIGMOID, "tanh": _TANH, "gelu": _GELU}
_HALF_ROOT = math.sqrt(0.5)
_DENSITY = 1 / math.sqrt(2 * math.pi)


def activation_forward(x: NDArray[Any], name: str, slope: float = 0.0) -> FloatArray:
    """Return a function of each element.

    Args:
        x: of any shape.
        name: ``"relu"``, the greater of x and 0; ``"leaky_relu"``, x where it is positive and ``slope * x``
            elsewhere; ``"sigmoid"``, ``1 / (1 + exp(-x))``; ``"tanh"``; or ``"gelu"``, x times the normal
            distribution's probability of less than x (Hendrycks and Gimpel, arXiv:1606.08415, exact).
        slope: for ``"leaky_relu"``.

    Returns:
        The values, in the shape of `x`, float32.

    Raises:
        ArgumentError: an argument is of a wrong kind, or `name` is unknown.
    """
    checks.activation(x, name, slope)
    x = float32(x)
    y = np.empty_like(x)
    _forward(x.reshape(-1), _NUMBERS[name], np.float32(slope), y.reshape(-1))
    return y


def activation_backward(grad_y: NDArray[Any], x: NDArray[Any], name: str, slope: float = 0.0) -> FloatArray:
    """Return the gradient for the argument of an activation function.

    Args:
        grad_y: gradient for the function's values, in the shape of `x`.
        x: the function's argument.
        name: as for `activation_forward`. The derivatives of ``"relu"`` and ``"leaky_relu"`` at 0 are those
            of the negative side.
        slope: for ``"leaky_relu"``.

    Returns:
        ``grad_y`` times the function's derivative, float32.

    Raises:
        ArgumentError: an argument is of a wrong shape or kind, or `name` is unknown.
    """
    checks.activation_backward(grad_y, x, name, slope)
    x = float32(x)
    grad_x = np.empty_like(x)
    _backward(float32(grad_y).reshape(-1), x.reshape(-1), _NUMBERS[name], np.float32(slope), grad_x.reshape(-1))
    return grad_x


@parallel_jit
def _forward(x_all, number, slope, y_all):
    for task in prange(parts_of(x_all)):
        x, y = part(x_all, task), part(y_all, task)
        if number == _RELU:
            for i in range(x.size):
                y[i] = np.float32(0) if x[i] <= 0 else x[i]  # a NaN remains one
        elif number == _LEAKY_RELU:
            for i in range(x.size):
                y[i] = x[i] if x[i] > 0 else slope * x[i]
        elif number == _SIGMOID:
            for i in range(x.size):
                y[i] = 1 / (1 + math.exp(-np.float64(x[i])))
        elif number == _TANH:
            for i in range(x.size):
                y[i] = math.tanh(np.float64(x[i]))
        else:
            for i in range(x.size):
                y[i] = np.float64(x[i]) * 0.5 * math.erfc(-np.float64(x[i]) * _HALF_ROOT)


@parallel_jit
def _backward(grad_y_all, x_all, number, slope, grad_x_all):
    for task in prange(parts_of(x_all)):
        grad_y, x, grad_x = part(grad_y_all, task), part(x_all, task), part(grad_x_all, task)
        if number == _RELU:
            for i in range(x.size):
                grad_x[i] = grad_y[i] if x[i] > 0 else np.float32(0)
        elif number == _LEAKY_RELU:
            for i in range(x.size):
                grad_x[i] = grad_y[i] if x[i] > 0 else slope * grad_y[i]
        elif number == _SIGMOID:
            for i in range(x.size):
                e = math.exp(-abs(np.float64(x[i])))  # the derivative is even
                grad_x[i] = grad_y[i] * (e / ((1 + e) * (1 + e)))
        elif number == _TANH:
            for i in range(x.size):
                e = math.exp(-2 * abs(np.float64(x[i])))
                grad_x[i] = grad_y[i] * (4 * e / ((1 + e) * (1 + e)))
        else:
            for i in range(x.size):
                value = np.float64(x[i])
                below = 0.5 * math.erfc(-value * _HALF_ROOT)
                grad_x[i] = grad_y[i] * (below + value * _DENSITY * math.exp(-0.5 * value * value))
