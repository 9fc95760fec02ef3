"""Softmax, and its cross-entropy: computed in double precision inside, stored as float32."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from fastcnn.backends import checks
from fastcnn.backends.numba.jit import parallel_jit
from fastcnn.backends.numba.packing import FloatArray, float32, plain

_TASK_ROWS = 64
_LARGEST = float(np.finfo(np.float32).max)


def softmax(logits: NDArray[Any]) -> FloatArray:
    """Return the probabilities of each row's classes, ``exp(logit) / sum(exp(logits))``.

    Args:
        logits: (N, classes).

    Returns:
        The probabilities (N, classes), float32.

    Raises:
        ArgumentError: a shape or a dtype is wrong.
    """
    checks.logits(logits)
    return _rows(logits, np.zeros(len(logits), np.int64))[1]


def softmax_cross_entropy(logits: NDArray[Any], labels: NDArray[Any]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return each sample's loss, the probabilities, and the gradient of each loss for the logits.

    Args:
        logits: (N, classes).
        labels: the true classes (N,), integers from 0 on.

    Returns:
        The losses ``log(sum(exp(logits))) - logits[label]`` (N,), finite wherever the logits are (a loss
        beyond the largest float32 is stored as that); the probabilities (N, classes); the gradients (N,
        classes), which are the probabilities less one at the label and are not divided by N. All float32.

    Raises:
        ArgumentError: a shape or a dtype is wrong, or a label is out of range.
    """
    checks.logits(logits)
    checks.labels(labels, *logits.shape)
    return _rows(logits, labels)


def _rows(logits: NDArray[Any], labels: NDArray[Any]) -> tuple[FloatArray, FloatArray, FloatArray]:
    logits = float32(logits)
    losses, probabilities, grad_logits = (
        np.empty(len(logits), np.float32),
        np.empty_like(logits),
        np.empty_like(logits),
    )
    _softmax(logits, plain(labels, np.int64), losses, probabilities, grad_logits)
    return losses, probabilities, grad_logits


@parallel_jit
def _softmax(logits, labels, losses, probabilities, grad_logits):
    samples, classes = logits.shape
    for task_index in prange((samples + _TASK_ROWS - 1) // _TASK_ROWS):
        task = np.intp(task_index)
        for n in range(task * _TASK_ROWS, min((task + 1) * _TASK_ROWS, samples)):
            largest = np.float64(logits[n, 0])
            for k in range(1, classes):
                value = np.float64(logits[n, k])
                if value > largest or value != value:
                    largest = value
            total = 0.0
            for k in range(classes):
                total += math.exp(np.float64(logits[n, k]) - largest)
            for k in range(classes):
                probability = math.exp(np.float64(logits[n, k]) - largest) / total
                probabilities[n, k] = probability
                grad_logits[n, k] = probability - (k == labels[n])
            loss = math.log(total) - (np.float64(logits[n, labels[n]]) - largest)
            if _LARGEST < loss < math.inf:
                loss = _LARGEST
            losses[n] = loss
