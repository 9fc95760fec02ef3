"""fastcnn through its public face: `Sequential.fit` and `Sequential.predict`, checks and all."""

from __future__ import annotations

import platform

import numba
import numpy as np

import fastcnn
from benchmarks.peers.engines import Task, ours_deep
from benchmarks.peers.problem import CLASSES, FILTERS, LEARNING_RATE, Array, Problem
from benchmarks.peers.workloads import Workload
from fastcnn import utils
from fastcnn.layers import Conv2D, Dense, Flatten, MaxPooling2D, Rescaling
from fastcnn.models import Sequential
from fastcnn.optimizers import SGD


class Engine:
    """See `benchmarks.peers.engines`.

    The images stay uint8: scaling them is part of our time. Ties in a pooling window are broken as the peers do,
    unless a variant ends in "ties all".
    """

    backend = "numba"

    def __init__(self, threads: int) -> None:
        utils.set_threads(threads)

    def versions(self) -> dict[str, str]:
        return {
            "fastcnn": fastcnn.__version__,
            "numba": numba.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        }

    def variants(self, workload: Workload) -> list[str]:
        if workload.convolves:
            return ["kernel"]
        return ["fit" if workload.trains else "predict"]

    def model(self, problem: Problem, ties: str) -> Sequential:
        """The network with the problem's weights, compiled."""
        layers = [
            Rescaling(1 / 255, -0.5),
            Conv2D(FILTERS, 3, use_bias=False),
            MaxPooling2D(2, ties=ties),
            Flatten(),
            Dense(CLASSES, activation="softmax"),
        ]
        model = Sequential(layers, backend=self.backend, seed=0)
        model.build((None, *problem.images.shape[1:]))
        model.set_weights([problem.filters, problem.weights, problem.bias])
        model.compile(SGD(LEARNING_RATE), "sparse_categorical_crossentropy", ["accuracy"])
        return model

    def task(self, workload: Workload, variant: str, samples: int, problem: Problem) -> Task:
        if workload.convolves:
            return ours_deep.Convolution(workload)
        if workload.network != "tutorial":
            return ours_deep.task(workload, samples, problem, self.backend)
        model = self.model(problem, "all" if variant.endswith("ties all") else "first")
        if workload.kind == "train":
            return Training(model, problem.images[:samples], problem.labels[:samples], workload.batch_size)
        return ours_deep.Inference(model, problem.test_images[:samples], one_a_call=workload.batch_size == 1)


class Training:
    """One epoch, in the images' order."""

    def __init__(self, model: Sequential, images: Array, labels: Array, batch_size: int) -> None:
        self._model, self._data, self._batch_size = model, (images, labels), batch_size

    def run(self) -> None:
        self._model.fit(*self._data, batch_size=self._batch_size, shuffle=False, verbose=0)

    def outcome(self) -> dict[str, Array]:
        return dict(zip(("filters", "weights", "bias"), self._model.get_weights(), strict=True))
