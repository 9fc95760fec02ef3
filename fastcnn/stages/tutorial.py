"""The tutorial's network as one compiled function: convolution, 2x2 max-pooling, dense softmax, plain SGD."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastcnn.layers import Conv2D, Dense, Flatten, Layer, MaxPooling2D, Rescaling
from fastcnn.layers.base import Array
from fastcnn.optimizers import SGD, Optimizer
from fastcnn.stages.base import Labels, slices

if TYPE_CHECKING:
    from fastcnn.backends.numba.fused import FusedNetwork

#: Images that are evaluated before control returns to Python, so that Ctrl-C is heard.
SLICE = 8192
#: Images that warming up evaluates: enough for all threads.
WARM_UP = 512


@dataclass(frozen=True)
class TutorialNetwork:
    """The layers of the family that `FusedNetwork` computes: convolution, 2x2 max-pooling, dense softmax."""

    rescaling: Rescaling | None
    convolution: Conv2D
    pooling: MaxPooling2D
    dense: Dense


def recognise(layers: Sequence[Layer]) -> TutorialNetwork | None:
    """The parts of the tutorial's network, or None where `layers` are another one.

    It is ``[Rescaling] Conv2D MaxPooling2D(2) Flatten Dense(softmax)`` with a bias in the dense layer.
    """
    rest = list(layers)
    rescaling = rest.pop(0) if rest and type(rest[0]) is Rescaling else None
    if [type(layer) for layer in rest] != [Conv2D, MaxPooling2D, Flatten, Dense]:
        return None
    convolution, pooling, _, dense = rest
    assert isinstance(convolution, Conv2D)
    assert isinstance(pooling, MaxPooling2D)
    assert isinstance(dense, Dense)
    assert rescaling is None or isinstance(rescaling, Rescaling)
    if (convolution.strides, convolution.padding, convolution.activation) != ((1, 1), "valid", "linear"):
        return None
    if (pooling.pool_size, pooling.strides, pooling.padding) != ((2, 2), (2, 2), "valid"):
        return None
    if dense.activation != "softmax" or not dense.use_bias:
        return None
    return TutorialNetwork(rescaling, convolution, pooling, dense)


def fused_plan(layers: Sequence[Layer], backend: str, optimizer: Optimizer | None = None) -> FusedPlan | None:
    """The plan for the tutorial's network on ``"numba"``, or None where `layers` are not it.

    Args:
        layers: a model's layers, built.
        backend: the model's backend.
        optimizer: None for inference; training needs plain SGD and a dense layer that learns.
    """
    network = recognise(layers) if backend == "numba" else None
    if network is None:
        return None
    if optimizer is not None and not (isinstance(optimizer, SGD) and optimizer.plain and network.dense.trainable):
        return None
    return FusedPlan(network)


def fused_network_class() -> type[FusedNetwork]:
    """The compiled network; Numba is imported here, at the first run."""
    from fastcnn.backends.numba.fused import FusedNetwork

    return FusedNetwork


class FusedPlan:
    """Runs a `TutorialNetwork` in `FusedNetwork`, which holds a copy of the weights in its own layout.

    The layers' weights are brought up to date after every call of `train`; where someone else changes them,
    the network is made anew at the next call.
    """

    def __init__(self, layers: TutorialNetwork) -> None:
        self._layers = layers
        self._parameters = [
            *layers.convolution.parameters.values(),
            *layers.dense.parameters.values(),
        ]
        self._versions: list[int] = []
        self._network: FusedNetwork | None = None

    def _make(self) -> FusedNetwork:
        layers = self._layers
        bias, shape = layers.convolution.parameters.get("bias"), layers.convolution.input_shape
        assert shape is not None
        return fused_network_class()(
            (shape[0], shape[1], shape[2]),
            layers.convolution.parameters["kernel"].value,
            None if bias is None else bias.value,
            layers.dense.parameters["kernel"].value,
            layers.dense.parameters["bias"].value,
            scale=1.0 if layers.rescaling is None else layers.rescaling.scale,
            offset=0.0 if layers.rescaling is None else layers.rescaling.offset,
            ties=layers.pooling.ties,
            train_conv=layers.convolution.trainable,
        )

    def _current(self) -> FusedNetwork:
        versions = [p.version for p in self._parameters]
        if self._network is None or versions != self._versions:
            self._network, self._versions = self._make(), versions
        return self._network

    def _publish(self, network: FusedNetwork) -> None:
        weights = [w for w in network.weights() if w is not None]
        for parameter, weight in zip(self._parameters, weights, strict=True):
            parameter.assign(weight)
        self._versions = [p.version for p in self._parameters]

    def prepare(self, images: Array) -> Array:
        # Numba compiles once more for arrays that are unaligned or can't be written: longer than it takes to copy them.
        dtype = np.uint8 if images.dtype == np.uint8 else np.float32
        return np.require(images, dtype, ["C", "A", "W"])

    def warm_up(self, images: Array, labels: Labels, batch_size: int, optimizer: Optimizer) -> None:
        network = self._make()  # trains on one image and is thrown away
        network.train(images, labels, np.zeros(1, np.int64), optimizer.learning_rate, batch_size)
        network.evaluate(images[:WARM_UP], labels[:WARM_UP])

    def train(
        self,
        images: Array,
        labels: Labels,
        order: Labels,
        batch_size: int,
        optimizer: Optimizer,
        weights: Array | None = None,
    ) -> tuple[float, int, int]:
        assert weights is None, "samples with weights take another plan"
        network = self._current()
        try:
            loss_sum, correct, done = network.train(images, labels, order, optimizer.learning_rate, batch_size)
        finally:  # also after Ctrl-C, which is heard when the compiled function returns
            self._publish(network)
        optimizer.iterations += -(-done // batch_size) if done == len(order) else done // batch_size
        return loss_sum, correct, done

    def evaluate(
        self, images: Array, labels: Labels, batch_size: int | None, weights: Array | None = None
    ) -> tuple[float, int]:
        assert weights is None, "samples with weights take another plan"
        network = self._current()
        loss_sum, correct = 0.0, 0
        for part in slices(len(images), SLICE):
            losses, right = network.evaluate(images[part], labels[part])
            loss_sum, correct = loss_sum + losses, correct + right
        return loss_sum, correct

    def predict(self, images: Array, batch_size: int | None) -> Array:
        network = self._current()
        if len(images) <= SLICE:
            probabilities: Array = network.predict(images)
            return probabilities
        return np.concatenate([network.predict(images[part]) for part in slices(len(images), SLICE)])
