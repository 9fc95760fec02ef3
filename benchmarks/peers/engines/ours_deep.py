"""fastcnn's deep networks through `Sequential.fit` and `Sequential.predict`, and its convolution kernels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.peers import networks
from benchmarks.peers.engines import Task, named, network_of, rates_of
from benchmarks.peers.networks import Network
from benchmarks.peers.problem import Array, Problem, convolution
from benchmarks.peers.shapes import ConvShape
from benchmarks.peers.workloads import Workload
from fastcnn import backends
from fastcnn.backends.numba.conv import operations as conv
from fastcnn.layers import Conv2D, Dense, Dropout, Flatten, Layer, MaxPooling2D, ReLU, Rescaling
from fastcnn.models import Sequential
from fastcnn.optimizers import Adadelta, Adam, Optimizer
from fastcnn.optimizers.schedules import OneCycle


def layers_of(network: Network) -> list[Layer]:
    """fastcnn's layers for a network's: ReLU is part of the layer before it, softmax of the last one."""
    found: list[Layer] = [Rescaling(network.scale, network.offset)]
    for layer, following in zip(network.layers, (*network.layers[1:], None), strict=True):
        activation = "relu" if following == networks.Relu() else None
        if isinstance(layer, networks.Conv):
            found.append(Conv2D(layer.filters, layer.kernel, activation=activation))
        elif isinstance(layer, networks.Dense):
            found.append(Dense(layer.units, activation=activation if following else "softmax"))
        elif isinstance(layer, networks.Pool):
            found.append(MaxPooling2D(2))
        elif isinstance(layer, networks.Dropout):
            found.append(Dropout(layer.rate))
        elif isinstance(layer, networks.Flatten):
            found.append(Flatten())
        elif not isinstance(found[-1], (Conv2D, Dense)):
            found.append(ReLU())
    return found


def optimizer_of(network: Network, steps: int) -> Optimizer:
    """The network's optimizer for a cycle of so many steps."""
    if network.optimizer == "adadelta":
        return Adadelta(network.rate, rho=networks.RHO, epsilon=networks.EPSILON)
    schedule = OneCycle(network.rate, max(steps, 2), warmup_fraction=0.2)
    return Adam(schedule, beta_1=networks.BETA_1, beta_2=networks.BETA_2, epsilon=networks.EPSILON)


def model_of(network: Network, backend: str = "numba", steps: int = 2, seed: int = 0) -> Sequential:
    """The network with its initial weights, compiled.

    Args:
        network: which.
        backend: as for `Sequential`.
        steps: of the learning rate's cycle.
        seed: of weights, order and dropout.
    """
    model = Sequential(layers_of(network), backend=backend, seed=seed)
    model.build((None, networks.SIZE, networks.SIZE, 1))
    model.set_weights(network.weights(seed))
    model.compile(optimizer_of(network, steps), "sparse_categorical_crossentropy", ["accuracy"])
    return model


def task(workload: Workload, samples: int, problem: Problem, backend: str) -> Task:
    """The work on the first `samples` images. They stay uint8: scaling them is part of our time."""
    network = network_of(workload)
    if workload.trains:
        return Training(network, problem.images[:samples], problem.labels[:samples], workload, backend)
    images = problem.test_images[:samples]
    return Inference(model_of(network, backend), images, one_a_call=workload.batch_size == 1)


class Training:
    """One epoch, in the images' order, or shuffled where that matters."""

    def __init__(self, network: Network, images: Array, labels: Array, workload: Workload, backend: str) -> None:
        self._network, self._backend, self._data = network, backend, (images, labels)
        self._steps = len(rates_of(network, workload))
        self._batch_size, self._shuffled = workload.batch_size, workload.kind == "reach"
        self.restart(0)

    def restart(self, seed: int) -> None:
        self._model = model_of(self._network, self._backend, self._steps, seed)

    def run(self) -> None:
        self._model.fit(*self._data, batch_size=self._batch_size, shuffle=self._shuffled, verbose=0)

    def outcome(self) -> dict[str, Array]:
        return named(self._model.get_weights())


class Inference:
    """All images in one call, or a call each."""

    def __init__(self, model: Sequential, images: Array, one_a_call: bool) -> None:
        self._model = model
        self._batches = [images[i : i + 1] for i in range(len(images))] if one_a_call else [images]
        self._outputs: list[Array] = []

    def run(self) -> None:
        self._outputs = [self._model.predict(batch) for batch in self._batches]

    def outcome(self) -> dict[str, Array]:
        return {"probabilities": np.concatenate(self._outputs)}


class Convolution:
    """One call of a backend's forward pass, or of the numba backend's kernel for one gradient alone."""

    def __init__(self, workload: Workload, backend: str = "numba") -> None:
        shape = ConvShape.parse(workload.shape)
        x, filters, grad_y = convolution(shape)
        steps = shape.strides, shape.padding
        forward = backends.get(backend).conv2d_forward
        calls: dict[str, Callable[[], Array]] = {
            "conv-forward": lambda: forward(x, filters, None, *steps),
            "conv-input": lambda: conv.input_gradient(grad_y, filters, x.shape, *steps),
            "conv-filter": lambda: conv.filter_gradient(grad_y, x, filters.shape[:2], *steps)[0],
        }
        self._call = calls[workload.kind]

    def run(self) -> None:
        self._result = self._call()

    def outcome(self) -> dict[str, Array]:
        return {"result": self._result}
