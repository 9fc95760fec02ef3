"""Deep networks in PyTorch: channels last, batches cut beforehand, a foreach or fused optimizer, no loss read.

The compiled variants put forward pass, loss and backward pass through `torch.compile`; for inference there is one
more, in which the compiler takes the weights for constants ("freezing") and packs them for oneDNN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.peers import networks
from benchmarks.peers.engines import Task, named, network_of, orders, rates_of
from benchmarks.peers.networks import Network
from benchmarks.peers.problem import Array, Problem
from benchmarks.peers.workloads import Workload

#: By whether the work is training.
WAYS = {
    True: ("eager, channels last", "torch.compile, channels last"),
    False: ("eager, channels last", "torch.compile, channels last", "torch.compile, freezing, channels last"),
}


class Model(nn.Module):
    """The network on images (N, 1, 28, 28) in memory format channels last; gives logits."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self._layers = network.layers
        self.weights = nn.ParameterList(_as_pytorch(torch.from_numpy(array)) for array in network.weights())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = iter(self.weights)
        for layer in self._layers:
            if isinstance(layer, networks.Conv):
                x = F.conv2d(x, next(weights), next(weights))
            elif isinstance(layer, networks.Pool):
                x = F.max_pool2d(x, 2)
            elif isinstance(layer, networks.Relu):
                x = F.relu(x)
            elif isinstance(layer, networks.Dropout):
                x = F.dropout(x, layer.rate, self.training)
            elif isinstance(layer, networks.Flatten):
                x = x.permute(0, 2, 3, 1).flatten(1)  # as the numbers lie in memory
            else:
                x = F.linear(x, next(weights), next(weights))
        return x

    def arrays(self) -> list[Array]:
        """The weights in Keras' layouts."""
        order = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}
        return [weights.detach().permute(order[weights.ndim]).numpy() for weights in self.weights]


def _as_pytorch(array: torch.Tensor) -> torch.Tensor:
    if array.ndim == 4:
        return array.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
    return array.T.contiguous() if array.ndim == 2 else array


def task(workload: Workload, way: str, batch_size: int, samples: int, problem: Problem) -> Task:
    """The work on the first `samples` images, their pixels already as the network sees them."""
    network = network_of(workload)
    model = Model(network)
    source = problem.images if workload.trains else problem.test_images
    images = torch.from_numpy(network.scaled(source[:samples])).permute(0, 3, 1, 2)
    if workload.trains:
        labels = torch.from_numpy(problem.labels[:samples])
        return Training(model, network, images, labels, workload, compiled=way.startswith("torch.compile"))
    return Inference(model, images.split(batch_size), way)


class Training:
    """One step for each batch."""

    def __init__(
        self,
        model: Model,
        network: Network,
        images: torch.Tensor,
        labels: torch.Tensor,
        workload: Workload,
        compiled: bool,
    ) -> None:
        self._model, self._network, self._images, self._labels = model.train(), network, images, labels
        self._workload, self._shuffled = workload, workload.kind == "reach"
        self._batches = [] if self._shuffled else self._cut(images, labels)
        self._rates = rates_of(network, workload)
        self.restart(0)

        def loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return F.cross_entropy(model(x), y)

        self._loss: Callable[..., torch.Tensor] = (
            torch.compile(loss, fullgraph=True, dynamic=False) if compiled else loss
        )

    def restart(self, seed: int) -> None:
        torch.manual_seed(seed)
        network, parameters = self._network, list(self._model.parameters())
        with torch.no_grad():
            for parameter, array in zip(parameters, network.weights(seed), strict=True):
                parameter.copy_(_as_pytorch(torch.from_numpy(array)))
        self._optimizer: torch.optim.Optimizer
        if network.optimizer == "adadelta":
            self._optimizer = torch.optim.Adadelta(
                parameters, network.rate, networks.RHO, networks.EPSILON, foreach=True
            )
        else:
            betas = (networks.BETA_1, networks.BETA_2)
            self._optimizer = torch.optim.Adam(parameters, network.rate, betas, networks.EPSILON, fused=True)
        self._steps_taken = 0
        self._orders = orders(self._workload, len(self._images), seed)

    def _cut(self, images: torch.Tensor, labels: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        size = self._workload.batch_size
        return list(zip(images.split(size), labels.split(size), strict=True))

    def _set_options(self, group: dict[str, Any]) -> None:
        """The rate of the coming step. PyTorch's Adam adds epsilon to an estimate that is larger by a factor than
        the one that Keras adds it to, and hence takes an epsilon larger by that factor."""
        step = self._steps_taken
        group["lr"] = float(self._rates[min(step, len(self._rates) - 1)])
        if self._network.optimizer == "adam":
            group["eps"] = networks.EPSILON / math.sqrt(1 - networks.BETA_2 ** (step + 1))

    def run(self) -> None:
        batches = self._batches
        if self._shuffled:
            order = torch.from_numpy(next(self._orders))
            batches = self._cut(self._images[order], self._labels[order])
        for x, y in batches:
            self._set_options(self._optimizer.param_groups[0])
            self._optimizer.zero_grad(set_to_none=True)
            self._loss(x, y).backward()
            self._optimizer.step()
            self._steps_taken += 1

    def outcome(self) -> dict[str, Array]:
        return named(self._model.arrays())


class Inference:
    """Probabilities of each batch."""

    def __init__(self, model: Model, batches: Any, way: str) -> None:
        self._batches = list(batches)
        self._outputs: list[torch.Tensor] = []
        model.eval()

        def predict(x: torch.Tensor) -> torch.Tensor:
            return model(x).softmax(1)

        self._predict: Callable[..., torch.Tensor] = predict
        if way.startswith("torch.compile"):
            options = {"freezing": "freezing" in way}
            self._predict = torch.compile(predict, fullgraph=True, dynamic=False, options=options)

    def run(self) -> None:
        with torch.no_grad():
            self._outputs = [self._predict(x) for x in self._batches]

    def outcome(self) -> dict[str, Array]:
        return {"probabilities": torch.cat(self._outputs).numpy()}
