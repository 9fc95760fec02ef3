"""What both kinds of plan are to the rest of the package."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastcnn.layers.base import Array
from fastcnn.optimizers import Optimizer

#: What `Loss.targets` makes of labels: whole numbers (N,), or numbers (N, ...).
Labels = NDArray[Any]


class Plan(Protocol):
    """What training and inference need. Images (N, *input shape) come from `prepare`; labels (N,)."""

    def prepare(self, images: Array) -> Array:
        """The images in a form that the other methods take; no copy where none is needed."""
        ...

    def warm_up(self, images: Array, labels: Labels, batch_size: int, optimizer: Optimizer) -> None:
        """Load or compile everything that training and evaluating need, and change nothing."""
        ...

    def train(
        self,
        images: Array,
        labels: Labels,
        order: NDArray[np.int64],
        batch_size: int,
        optimizer: Optimizer,
        weights: Array | None = None,
    ) -> tuple[float, int, int]:
        """Visit the samples `order` in batches, updating the weights after each.

        Each sample's loss counts as much as its entry of `weights` (N,) says; None is 1.

        Returns:
            The sum of the losses and the number of right answers, both from before each update, and how many
            samples were visited: fewer than given where the loss of the next one was not finite.
        """
        ...

    def evaluate(
        self, images: Array, labels: Labels, batch_size: int | None, weights: Array | None = None
    ) -> tuple[float, int]:
        """The sum of the losses, each times its weight, and the number of right answers."""
        ...

    def predict(self, images: Array, batch_size: int | None) -> Array:
        """The model's outputs, one row a sample."""
        ...


def slices(length: int, size: int) -> Iterator[slice]:
    """Parts of `size`, the last perhaps shorter."""
    return (slice(start, start + size) for start in range(0, length, size))
