"""Softmax and the losses in loops. A loss is one number a sample, and its gradient that sample's own."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.backends.reference.arrays import FloatArray, array


def softmax(logits: ArrayLike) -> FloatArray:
    """Turn each row of scores into probabilities: ``p[n,k] = exp(z[n,k]) / sum over m of exp(z[n,m])``.

    The row's largest score is subtracted first. That cancels in the fraction, and no exponential can overflow
    ("Deep Learning", section 4.1).

    Args:
        logits: the scores z (N, K).

    Returns:
        (N, K), each row positive with sum 1.

    Raises:
        ValueError: logits is no matrix.
    """
    logits = array("logits", logits, "N K")
    (N, K), scores = logits.shape, logits.tolist()
    probabilities = np.empty((N, K))
    for n in range(N):
        largest = max(scores[n])
        total = 0.0
        for k in range(K):
            total += math.exp(scores[n][k] - largest)
        for k in range(K):
            probabilities[n, k] = math.exp(scores[n][k] - largest) / total
    return probabilities


def softmax_backward(grad_y: ArrayLike, y: ArrayLike) -> FloatArray:
    """Carry the gradient of softmax's probabilities back to the scores.

    Raising one score lowers all other probabilities, ``dy[k]/dz[m] = y[k] * ((k == m) - y[m])`` (Bishop,
    "Pattern Recognition and Machine Learning", 2006, equation 4.106). Summed over k:

    ``grad_x[n,m] = y[n,m] * (grad_y[n,m] - sum over k of grad_y[n,k] * y[n,k])``

    Args:
        grad_y: (N, K).
        y: the probabilities that `softmax` returned (N, K).

    Returns:
        grad_x, the gradient for the scores (N, K).

    Raises:
        ValueError: the shapes do not fit each other.
    """
    y = array("y", y, "N K")
    grads, probabilities = array("grad_y", grad_y, "N K", y.shape).tolist(), y.tolist()
    N, K = y.shape
    grad_x = np.empty((N, K))
    for n in range(N):
        average = 0.0
        for k in range(K):
            average += grads[n][k] * probabilities[n][k]
        for k in range(K):
            grad_x[n, k] = probabilities[n][k] * (grads[n][k] - average)
    return grad_x


def softmax_cross_entropy(logits: ArrayLike, labels: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Softmax, then the surprise at the true class: ``loss[n] = -log(p[n,label])``, in natural logarithms.

    The loss is computed as ``log(sum over m of exp(z[n,m] - largest)) - (z[n,label] - largest)``, the same
    number but finite even where p rounds to zero. Together the two have a gradient of great simplicity, ``p -
    onehot(label)`` (Bishop, "Pattern Recognition and Machine Learning", 2006, equation 4.109).

    Args:
        logits: the scores z (N, K).
        labels: the true classes (N,), integers from 0 to K-1.

    Returns:
        (losses (N,), probabilities (N, K), grad_logits (N, K)): a loss a sample, and each loss's gradient for
        its own row of scores.

    Raises:
        ValueError: the shapes do not fit each other, or a label is not one of the classes.
    """
    logits, labels = array("logits", logits, "N K"), np.asarray(labels)
    (N, K), scores = logits.shape, logits.tolist()
    if labels.shape != (N,) or labels.dtype.kind not in "iu":
        raise ValueError(f"labels is {labels.dtype} {labels.shape}; it must be integers {(N,)}")
    probabilities = softmax(logits)
    losses, grad_logits = np.empty(N), np.empty((N, K))
    for n in range(N):
        label = int(labels[n])
        if not 0 <= label < K:
            raise ValueError(f"labels holds {label}; with {K} classes it must be from 0 to {K - 1}")
        largest = max(scores[n])
        total = 0.0
        for k in range(K):
            total += math.exp(scores[n][k] - largest)
            grad_logits[n, k] = probabilities[n, k] - (1.0 if k == label else 0.0)
        losses[n] = math.log(total) - (scores[n][label] - largest)
    return losses, probabilities, grad_logits


def softmax_cross_entropy_soft(logits: ArrayLike, targets: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Softmax, then the surprise weighted by targets: ``loss[n] = -sum over k of targets[n,k] * log(p[n,k])``.

    For labels that are smoothed or mixed. One-hot targets give what `softmax_cross_entropy` does for the
    labels. The logarithm is computed as there, and with T the sum of a row's targets (1 for probabilities, but
    it may be anything) the gradient is ``grad_logits[n,k] = T[n] * p[n,k] - targets[n,k]``.

    Args:
        logits: the scores z (N, K).
        targets: (N, K).

    Returns:
        (losses (N,), probabilities (N, K), grad_logits (N, K)).

    Raises:
        ValueError: the shapes do not fit each other.
    """
    logits = array("logits", logits, "N K")
    weights = array("targets", targets, "N K", logits.shape).tolist()
    (N, K), scores = logits.shape, logits.tolist()
    probabilities = softmax(logits)
    losses, grad_logits = np.zeros(N), np.empty((N, K))
    for n in range(N):
        largest = max(scores[n])
        total, weight = 0.0, 0.0
        for k in range(K):
            total += math.exp(scores[n][k] - largest)
            weight += weights[n][k]
        for k in range(K):
            losses[n] += weights[n][k] * (math.log(total) - (scores[n][k] - largest))
            grad_logits[n, k] = weight * probabilities[n, k] - weights[n][k]
    return losses, probabilities, grad_logits


def mean_squared_error(predictions: ArrayLike, targets: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Average the squared differences of each sample.

    ``losses[n] = sum over d of (predictions[n,d] - targets[n,d])^2 / D``
    ``grad_predictions[n,d] = 2 * (predictions[n,d] - targets[n,d]) / D``

    Args:
        predictions: (N, ...); d counts the D elements of all axes but the first.
        targets: the shape of the predictions.

    Returns:
        (losses (N,), grad_predictions (N, ...)).

    Raises:
        ValueError: the shapes do not fit each other.
    """
    predictions = array("predictions", predictions, "N ...")
    N = len(predictions)
    wanted = array("targets", targets, "N ...", predictions.shape).reshape(N, -1).tolist()
    given = predictions.reshape(N, -1).tolist()
    D = len(given[0])
    losses, grad_predictions = np.zeros(N), np.empty((N, D))
    for n in range(N):
        for d in range(D):
            difference = given[n][d] - wanted[n][d]
            losses[n] += difference * difference / D
            grad_predictions[n, d] = 2 * difference / D
    return losses, grad_predictions.reshape(predictions.shape)
