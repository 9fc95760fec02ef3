"""How good a trained model is on labelled images: more than `Sequential.evaluate` returns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcnn.models import Sequential


@dataclass
class Evaluation:
    """What `evaluate` found.

    Attributes:
        n_test: how many images.
        loss: the mean cross-entropy, in natural logarithms.
        accuracy: the share of right answers p.
        standard_error: of the accuracy, sqrt(p (1 - p) / n): other images of the same kind would give about
            this more or less.
        confusion: (K, K), how many images of class [row] were taken for class [column].
    """

    n_test: int
    loss: float
    accuracy: float
    standard_error: float
    confusion: NDArray[np.int64]

    def to_json(self) -> dict[str, Any]:
        """The same as plain lists and dictionaries."""
        return {
            "n_test": self.n_test,
            "loss": self.loss,
            "accuracy": self.accuracy,
            "standard_error": self.standard_error,
            "confusion": self.confusion.tolist(),
        }


def evaluate(model: Sequential, images: NDArray[Any], labels: NDArray[Any]) -> Evaluation:
    """Evaluate a model on labelled images. It is compiled anew, for whole-number labels.

    Args:
        model: ends in a softmax.
        images: (N, *the model's input shape); one channel may be left out.
        labels: (N,), whole numbers from 0 to K - 1.

    Raises:
        ArgumentError: the images or labels don't fit the model.
    """
    model.compile(model.optimizer or "sgd", "sparse_categorical_crossentropy", ["accuracy"])
    loss, accuracy = model.evaluate(images, labels, verbose=0)
    probabilities = model.predict(images, verbose=0)
    classes = probabilities.shape[1]
    pairs = labels.astype(np.int64) * classes + probabilities.argmax(axis=1)
    confusion = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    error = math.sqrt(accuracy * (1.0 - accuracy) / len(labels))
    return Evaluation(len(labels), loss, accuracy, error, confusion)
