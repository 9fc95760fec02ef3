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
    return cross_entropy_rows(logits, np.zeros(len(logits), np.int64))[1]


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
    return cross_entropy_rows(logits, labels)[:3]


def softmax_cross_entropy_soft(
    logits: NDArray[Any], targets: NDArray[Any]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return each sample's loss for a wanted share of each class, the probabilities, and the gradients.

    Args:
        logits: (N, classes).
        targets: the wanted shares (N, classes). A row may sum to anything.

    Returns:
        The losses ``-sum(target * log(probability))`` (N,), finite wherever the logits are (a loss beyond the
        largest float32 is stored as that); the probabilities (N, classes); the gradients (N, classes), which
        are ``sum(targets) * probability - target`` and are not divided by N. All float32.

    Raises:
        ArgumentError: a shape or a dtype is wrong.
    """
    checks.logits(logits)
    checks.shape("targets", targets, logits.shape)
    logits = float32(logits)
    losses = np.empty(len(logits), np.float32)
    probabilities, grad_logits = np.empty_like(logits), np.empty_like(logits)
    _soft(logits, float32(targets), losses, probabilities, grad_logits)
    return losses, probabilities, grad_logits


def softmax_backward(grad_y: NDArray[Any], y: NDArray[Any]) -> FloatArray:
    """Return the gradient for the logits of a softmax.

    Args:
        grad_y: gradient for the probabilities (N, classes).
        y: the probabilities, as `softmax` returned them (N, classes).

    Returns:
        ``y * (grad_y - sum(grad_y * y))``, row by row (N, classes), float32.

    Raises:
        ArgumentError: a shape or a dtype is wrong.
    """
    checks.softmax_backward(grad_y, y)
    y = float32(y)
    grad_x = np.empty_like(y)
    _backward(float32(grad_y), y, grad_x)
    return grad_x


def cross_entropy_rows(
    logits: NDArray[Any], labels: NDArray[Any]
) -> tuple[FloatArray, FloatArray, FloatArray, NDArray[np.bool_]]:
    """Return `softmax_cross_entropy`'s result, and whether each label's logit is the first of the greatest (N,)."""
    logits = float32(logits)
    losses, right = np.empty(len(logits), np.float32), np.empty(len(logits), np.bool_)
    probabilities, grad_logits = np.empty_like(logits), np.empty_like(logits)
    _softmax(logits, plain(labels, np.int64), losses, probabilities, grad_logits, right)
    return losses, probabilities, grad_logits, right


@parallel_jit
def _softmax(logits, labels, losses, probabilities, grad_logits, right):
    samples, classes = logits.shape
    for task_index in prange((samples + _TASK_ROWS - 1) // _TASK_ROWS):
        task = np.intp(task_index)
        powers = np.empty(classes, np.float64)
        for n in range(task * _TASK_ROWS, min((task + 1) * _TASK_ROWS, samples)):
            best, largest = 0, np.float64(logits[n, 0])
            for k in range(1, classes):
                value = np.float64(logits[n, k])
                if largest == largest and (value > largest or value != value):  # NaN beats all
                    best, largest = k, value
            total = 0.0
            for k in range(classes):
                powers[k] = math.exp(np.float64(logits[n, k]) - largest)
                total += powers[k]
            for k in range(classes):
                probability = powers[k] / total
                probabilities[n, k] = probability
                grad_logits[n, k] = probability - (k == labels[n])
            loss = math.log(total) - (np.float64(logits[n, labels[n]]) - largest)
            if _LARGEST < loss < math.inf:
                loss = _LARGEST
            losses[n], right[n] = loss, best == labels[n]


@parallel_jit
def _soft(logits, targets, losses, probabilities, grad_logits):
    samples, classes = logits.shape
    for task_index in prange((samples + _TASK_ROWS - 1) // _TASK_ROWS):
        task = np.intp(task_index)
        for n in range(task * _TASK_ROWS, min((task + 1) * _TASK_ROWS, samples)):
            largest = np.float64(logits[n, 0])
            for k in range(1, classes):
                value = np.float64(logits[n, k])
                if value > largest or value != value:
                    largest = value
            total, weight = 0.0, 0.0
            for k in range(classes):
                total += math.exp(np.float64(logits[n, k]) - largest)
                weight += np.float64(targets[n, k])
            logarithm, loss = math.log(total), 0.0
            for k in range(classes):
                shifted = np.float64(logits[n, k]) - largest
                probability = math.exp(shifted) / total
                probabilities[n, k] = probability
                grad_logits[n, k] = weight * probability - targets[n, k]
                loss += targets[n, k] * (logarithm - shifted)
            if _LARGEST < loss < math.inf:
                loss = _LARGEST
            losses[n] = loss


@parallel_jit
def _backward(grad_y, y, grad_x):
    samples, classes = y.shape
    for task_index in prange((samples + _TASK_ROWS - 1) // _TASK_ROWS):
        task = np.intp(task_index)
        for n in range(task * _TASK_ROWS, min((task + 1) * _TASK_ROWS, samples)):
            mean = 0.0
            for k in range(classes):
                mean += np.float64(grad_y[n, k]) * np.float64(y[n, k])
            for k in range(classes):
                grad_x[n, k] = y[n, k] * (grad_y[n, k] - mean)
