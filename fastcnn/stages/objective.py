"""The loss at the end of a network, with its gradient and the number of right answers."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from fastcnn.layers.base import Array
from fastcnn.losses import Loss, MeanSquaredError


class Objective:
    """A loss on a backend.

    Args:
        operations: the backend's module.
        loss: None is cross-entropy.
    """

    def __init__(self, operations: ModuleType, loss: Loss | None) -> None:
        self._operations = operations
        #: Whether the loss is computed from the network's logits, softmax and cross-entropy being one operation.
        self.takes_logits = not isinstance(loss, MeanSquaredError)

    def measure(self, outputs: Array, targets: Array) -> tuple[Array, Array, int]:
        """Every sample's loss, its gradient with respect to the sample's outputs, and how many answers are right.

        Args:
            outputs: the logits (N, K) where `takes_logits`, else the network's output (N, ...). A row of classes is
                right if the first of the greatest is the target's; other outputs never are.
            targets: what `Loss.targets` made of the labels.
        """
        if not self.takes_logits:
            losses, grad_outputs = self._operations.mean_squared_error(outputs, targets.astype(outputs.dtype))
        elif targets.ndim == 1:
            losses, _, grad_outputs = self._operations.softmax_cross_entropy(outputs, targets)
        else:
            losses, _, grad_outputs = self._operations.softmax_cross_entropy_soft(
                outputs, targets.astype(outputs.dtype)
            )
        return losses, grad_outputs, _right_answers(outputs, targets)


def _right_answers(outputs: Array, targets: Array) -> int:
    if outputs.ndim != 2:
        return 0
    truth = targets if targets.ndim == 1 else targets.argmax(axis=1)
    return int(np.count_nonzero(outputs.argmax(axis=1) == truth))


def weighted(values: Array, weights: Array | None) -> Array:
    """Each sample's values times the sample's weight; None is 1."""
    if weights is None:
        return values
    product: Array = values * weights.astype(values.dtype).reshape(-1, *[1] * (values.ndim - 1))
    return product


def total(losses: Array) -> float:
    """The sum, in double precision."""
    return float(np.add.reduce(losses, dtype=np.float64))


def mean_gradient(gradients: Array, weights: Array | None) -> Array:
    """The gradient of the mean of the weighted losses, from those of each loss."""
    product = weighted(gradients, weights)
    mean: Array = product / product.dtype.type(len(product))
    return mean


def first_not_finite(losses: Array) -> int | None:
    """The position of the first loss that is not finite, or None."""
    wrong = np.flatnonzero(~np.isfinite(losses))
    return int(wrong[0]) if len(wrong) else None
