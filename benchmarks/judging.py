"""The test accuracy of weights that any participant trained, by one and the same network: fastcnn's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.peers.engines import ours, ours_deep
from benchmarks.peers.networks import NETWORKS
from benchmarks.peers.problem import Array, Problem
from benchmarks.peers.workloads import Workload
from fastcnn.models import Sequential


class Judge:
    """Classifies test images.

    Args:
        problem: has the test images, and the tutorial network's weights.
        labels: of the test images (N,).
    """

    def __init__(self, problem: Problem, labels: Array) -> None:
        self._problem, self._labels = problem, labels
        self._models: dict[str, Sequential] = {}

    def __call__(self, workload: Workload, outcome: Mapping[str, Any]) -> float:
        """The share of test images that `workload`'s network classifies correctly with the weights of an outcome."""
        model = self._models.setdefault(workload.network, self._model(workload.network))
        model.set_weights([np.asarray(weights, np.float32) for weights in outcome.values()])
        return float((model.predict(self._problem.test_images).argmax(1) == self._labels).mean())

    def _model(self, network: str) -> Sequential:
        if network == "tutorial":
            return ours.Engine(1).model(self._problem, "first")
        return ours_deep.model_of(NETWORKS[network])
