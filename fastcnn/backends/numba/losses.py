"""Losses that need no kernel. The cross-entropies are with the softmax."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcnn.backends import checks
from fastcnn.backends.numba.packing import FloatArray, float32


def mean_squared_error(predictions: NDArray[Any], targets: NDArray[Any]) -> tuple[FloatArray, FloatArray]:
    """Return the mean of each sample's squared errors, and its gradient.

    Args:
        predictions: (N, ...).
        targets: in the shape of `predictions`.

    Returns:
        The losses (N,), and the gradient of each for its sample's predictions (N, ...), float32: twice the error,
        divided by the number of elements of a sample.

    Raises:
        ArgumentError: a shape or a dtype is wrong.
    """
    checks.mean_squared_error(predictions, targets)
    errors = float32(predictions).astype(np.float64) - float32(targets)
    each = errors.reshape(len(errors), -1)
    with np.errstate(over="ignore"):
        losses = np.square(each).mean(axis=1).astype(np.float32)
        return losses, (errors * (2 / each.shape[1])).astype(np.float32)
