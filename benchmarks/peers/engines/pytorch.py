"""PyTorch: a functional network, batches cut beforehand, gradients straight from autograd, one foreach update a step.

`nn.Module`, `optimizer.zero_grad`, `loss.backward` and `optimizer.step` cost more than the arithmetic at batch size
one, so that none of them is used; no step waits for the host, because no loss is read.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.peers.engines import Task, in_batches, pytorch_convolution, pytorch_deep, way_and_batch
from benchmarks.peers.problem import CLASSES, FILTERS, LEARNING_RATE, POOLED, Array, Problem, scaled
from benchmarks.peers.workloads import Workload

Tensors = list[torch.Tensor]


class Engine:
    """See `benchmarks.peers.engines`."""

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)

    def versions(self) -> dict[str, str]:
        return {"torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()}

    def variants(self, workload: Workload) -> list[str]:
        if workload.convolves:
            return list(pytorch_convolution.LAYOUTS)
        if workload.network != "tutorial":
            return in_batches(pytorch_deep.WAYS[workload.trains], workload, (100, 1000))
        ways = ("eager", "eager, channels last", "torch.compile", "torch.compile, channels last")
        return in_batches(ways, workload, (1000, 10_000))

    def task(self, workload: Workload, variant: str, samples: int, problem: Problem) -> Task:
        if workload.convolves:
            return pytorch_convolution.Convolution(workload, variant)
        way, batch_size = way_and_batch(variant, workload)
        torch._dynamo.reset()
        if workload.network != "tutorial":
            return pytorch_deep.task(workload, way, batch_size, samples, problem)
        layout = torch.channels_last if way.endswith("channels last") else torch.contiguous_format
        network = Network(problem, layout)
        compiled = way.startswith("torch.compile")
        if workload.kind == "train":
            images = network.images(problem.images[:samples])
            labels = torch.from_numpy(problem.labels[:samples])
            return Training(network, images.split(batch_size), labels.split(batch_size), compiled)
        images = network.images(problem.test_images[:samples])
        return Inference(network, images.split(batch_size), compiled)


class Network:
    """Weights and forward pass; `layout` is the memory format of images and filters."""

    def __init__(self, problem: Problem, layout: torch.memory_format) -> None:
        self._layout = layout
        self._channels_last = layout is torch.channels_last
        filters = torch.from_numpy(problem.filters).permute(3, 2, 0, 1).contiguous(memory_format=layout)
        weights = problem.weights.reshape(POOLED, POOLED, FILTERS, CLASSES)
        weights = weights if self._channels_last else weights.transpose(2, 0, 1, 3)  # as the activations lie in memory
        linear = torch.from_numpy(np.ascontiguousarray(weights.reshape(-1, CLASSES).T))
        self.parameters: Tensors = [filters.clone(), linear, torch.from_numpy(problem.bias.copy())]

    def images(self, images: Array) -> torch.Tensor:
        """Images (N, 1, 28, 28). With one channel both layouts hold the same numbers in the same order, and
        PyTorch tells them apart by the strides alone, which decide about the path that the convolution takes."""
        pixels = torch.from_numpy(scaled(images))
        return pixels.permute(0, 3, 1, 2) if self._channels_last else pixels.reshape(-1, 1, 28, 28)

    def logits(self, parameters: Tensors, x: torch.Tensor) -> torch.Tensor:
        filters, weights, bias = parameters
        y = F.max_pool2d(F.conv2d(x, filters), 2)
        return F.linear((y.permute(0, 2, 3, 1) if self._channels_last else y).flatten(1), weights, bias)

    def outcome(self) -> dict[str, Array]:
        filters, linear, bias = (parameter.detach().numpy() for parameter in self.parameters)
        if self._channels_last:
            weights = linear.T
        else:
            weights = linear.T.reshape(FILTERS, POOLED, POOLED, CLASSES).transpose(1, 2, 0, 3).reshape(-1, CLASSES)
        return {"filters": filters.transpose(2, 3, 1, 0), "weights": weights, "bias": bias}


class Training:
    """One step for each batch."""

    def __init__(self, network: Network, images: Any, labels: Any, compiled: bool) -> None:
        self._network = network
        self._batches = list(zip(images, labels, strict=True))
        self._step: Callable[[torch.Tensor, torch.Tensor], None] = self._compiled() if compiled else self._eager()

    def _loss(self, parameters: Tensors, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(self._network.logits(parameters, x), y)

    def _eager(self) -> Callable[[torch.Tensor, torch.Tensor], None]:
        parameters = self._network.parameters
        for parameter in parameters:
            parameter.requires_grad_()

        def step(x: torch.Tensor, y: torch.Tensor) -> None:
            gradients = torch.autograd.grad(self._loss(parameters, x, y), parameters)
            with torch.no_grad():
                torch._foreach_add_(parameters, gradients, alpha=-LEARNING_RATE)

        return step

    def _compiled(self) -> Callable[[torch.Tensor, torch.Tensor], None]:
        """Forward pass, backward pass and update in one graph."""
        parameters = self._network.parameters
        gradients_of = torch.func.grad(self._loss)

        @torch.compile(fullgraph=True, dynamic=False)
        def step(x: torch.Tensor, y: torch.Tensor) -> None:
            for parameter, gradient in zip(parameters, gradients_of(parameters, x, y), strict=True):
                parameter.sub_(gradient, alpha=LEARNING_RATE)

        def without_tape(x: torch.Tensor, y: torch.Tensor) -> None:
            with torch.no_grad():
                step(x, y)

        return without_tape

    def run(self) -> None:
        for x, y in self._batches:
            self._step(x, y)

    def outcome(self) -> dict[str, Array]:
        return self._network.outcome()


class Inference:
    """Probabilities of each batch."""

    def __init__(self, network: Network, batches: Any, compiled: bool) -> None:
        self._batches = list(batches)
        self._outputs: Tensors = []

        def predict(x: torch.Tensor) -> torch.Tensor:
            return network.logits(network.parameters, x).softmax(1)

        self._predict = torch.compile(predict, fullgraph=True, dynamic=False) if compiled else predict

    def run(self) -> None:
        with torch.inference_mode():
            self._outputs = [self._predict(x) for x in self._batches]

    def outcome(self) -> dict[str, Array]:
        return {"probabilities": torch.cat(self._outputs).numpy()}
