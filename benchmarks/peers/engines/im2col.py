"""Plain numpy: the networks on fastcnn's middle rung, im2col and matrix products, without a compiler."""

from __future__ import annotations

import platform

import numpy as np

from benchmarks.peers.engines import Task, ours, ours_deep
from benchmarks.peers.problem import Problem
from benchmarks.peers.workloads import Workload


class Engine(ours.Engine):
    """See `benchmarks.peers.engines`.

    This rung gives both gradients of a convolution at once, or none; and it would need hours to reach an accuracy.
    """

    backend = "im2col"

    def versions(self) -> dict[str, str]:
        return {"numpy": np.__version__, "python": platform.python_version()}

    def variants(self, workload: Workload) -> list[str]:
        return [] if workload.kind in ("conv-input", "conv-filter", "reach") else super().variants(workload)

    def task(self, workload: Workload, variant: str, samples: int, problem: Problem) -> Task:
        if workload.convolves:
            return ours_deep.Convolution(workload, self.backend)
        return super().task(workload, variant, samples, problem)
