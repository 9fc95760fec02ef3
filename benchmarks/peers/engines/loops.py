"""The tutorial's way: numpy on one 3x3 or 2x2 patch after another, one image at a time, in float64.

Much quicker than `fastcnn.reference`, whose loops go over single numbers.
"""

from __future__ import annotations

import platform

import numpy as np

from benchmarks.peers.problem import CLASSES, FILTERS, LEARNING_RATE, POOLED, Array, Problem
from benchmarks.peers.workloads import Workload


class Engine:
    """See `benchmarks.peers.engines`."""

    def __init__(self, threads: int) -> None:
        pass

    def versions(self) -> dict[str, str]:
        return {"numpy": np.__version__, "python": platform.python_version()}

    def variants(self, workload: Workload) -> list[str]:
        if workload.network != "tutorial" or workload.convolves:
            return []
        return ["patch by patch"] if workload.kind == "predict" or workload.batch_size == 1 else []

    def task(self, workload: Workload, variant: str, samples: int, problem: Problem) -> Training | Inference:
        network = Network(problem)
        if workload.kind == "train":
            return Training(network, problem.images[:samples, :, :, 0], problem.labels[:samples])
        return Inference(network, problem.test_images[:samples, :, :, 0])


class Network:
    """Convolution, 2x2 max-pooling and softmax with their backward passes. All winners of a tie get the gradient."""

    def __init__(self, problem: Problem) -> None:
        self.filters = np.ascontiguousarray(problem.filters[:, :, 0].transpose(2, 0, 1), np.float64)  # (8, 3, 3)
        self.weights = problem.weights.astype(np.float64)
        self.bias = problem.bias.astype(np.float64)

    def forward(self, image: Array) -> Array:
        """Probabilities (10,) of an image (28, 28) with pixels from -0.5 to 0.5."""
        self.image = image
        self.convolved = np.zeros((2 * POOLED, 2 * POOLED, FILTERS))
        for row in range(2 * POOLED):
            for column in range(2 * POOLED):
                patch = image[row : row + 3, column : column + 3]
                self.convolved[row, column] = np.sum(patch * self.filters, axis=(1, 2))
        self.pooled = np.zeros((POOLED, POOLED, FILTERS))
        for row in range(POOLED):
            for column in range(POOLED):
                window = self.convolved[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
                self.pooled[row, column] = np.amax(window, axis=(0, 1))
        powers = np.exp(self.pooled.reshape(-1) @ self.weights + self.bias)
        probabilities: Array = powers / powers.sum()
        return probabilities

    def step(self, image: Array, label: int) -> None:
        """One step of gradient descent on one image."""
        grad_logits = self.forward(image)
        grad_logits[label] -= 1
        inputs = self.pooled.reshape(-1)
        grad_pooled = (self.weights @ grad_logits).reshape(self.pooled.shape)
        self.weights -= LEARNING_RATE * np.outer(inputs, grad_logits)
        self.bias -= LEARNING_RATE * grad_logits

        grad_convolved = np.zeros(self.convolved.shape)
        for row in range(POOLED):
            for column in range(POOLED):
                window = self.convolved[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
                highest = self.pooled[row, column]
                for i in range(2):
                    for j in range(2):
                        for f in range(FILTERS):
                            if window[i, j, f] == highest[f]:
                                grad_convolved[2 * row + i, 2 * column + j, f] = grad_pooled[row, column, f]

        grad_filters = np.zeros(self.filters.shape)
        for row in range(2 * POOLED):
            for column in range(2 * POOLED):
                patch = self.image[row : row + 3, column : column + 3]
                for f in range(FILTERS):
                    grad_filters[f] += grad_convolved[row, column, f] * patch
        self.filters -= LEARNING_RATE * grad_filters


class Training:
    """One image after the other."""

    def __init__(self, network: Network, images: Array, labels: Array) -> None:
        self._network, self._images, self._labels = network, images, labels

    def run(self) -> None:
        for image, label in zip(self._images, self._labels, strict=True):
            self._network.step(image / 255 - 0.5, int(label))

    def outcome(self) -> dict[str, Array]:
        network = self._network
        filters = network.filters.transpose(1, 2, 0)[:, :, None]
        return {"filters": filters, "weights": network.weights.reshape(-1, CLASSES), "bias": network.bias}


class Inference:
    """One image after the other."""

    def __init__(self, network: Network, images: Array) -> None:
        self._network, self._images = network, images
        self._outputs: list[Array] = []

    def run(self) -> None:
        self._outputs = [self._network.forward(image / 255 - 0.5) for image in self._images]

    def outcome(self) -> dict[str, Array]:
        return {"probabilities": np.array(self._outputs)}
