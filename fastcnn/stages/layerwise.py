"""One stage a layer, on any backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from fastcnn import backends
from fastcnn.errors import ArgumentError
from fastcnn.layers import Conv2D, Dense, Flatten, Layer, MaxPooling2D, Rescaling
from fastcnn.layers.base import Array, Parameter
from fastcnn.optimizers import Optimizer
from fastcnn.stages.base import Labels, slices


class Stage:
    """How one layer runs on a backend. `forward` keeps what `backward` needs when training.

    Args:
        layer: the layer, built.
        operations: the backend's module.
    """

    def __init__(self, layer: Any, operations: ModuleType) -> None:
        self.layer = layer
        self.operations = operations
        self.parameters: list[Parameter] = list(layer.parameters.values())
        #: After `backward`: one for every parameter, summed over the samples of `grad_y`.
        self.gradients: list[Array] = []

    def forward(self, x: Array, training: bool) -> Array:
        """The layer's output for a batch."""
        raise NotImplementedError

    def backward(self, grad_y: Array) -> Array:
        """The loss' gradient with respect to the input, from that with respect to the output."""
        raise NotImplementedError

    def value(self, name: str) -> Array | None:
        """One of the layer's weights by name, or None."""
        parameter = self.layer.parameters.get(name)
        return None if parameter is None else parameter.value


class RescalingStage(Stage):
    def forward(self, x: Array, training: bool) -> Array:
        y: Array = x * x.dtype.type(self.layer.scale) + x.dtype.type(self.layer.offset)
        return y

    def backward(self, grad_y: Array) -> Array:
        grad_x: Array = grad_y * grad_y.dtype.type(self.layer.scale)
        return grad_x


class Conv2DStage(Stage):
    def forward(self, x: Array, training: bool) -> Array:
        self._x = x if training else None
        y: Array = self.operations.conv2d_forward(x, self.value("kernel"), self.value("bias"))
        return y

    def backward(self, grad_y: Array) -> Array:
        grad_x: Array
        grad_x, *gradients = self.operations.conv2d_backward(grad_y, self._x, self.value("kernel"))
        self.gradients = gradients[: len(self.parameters)]
        return grad_x


class MaxPooling2DStage(Stage):
    def forward(self, x: Array, training: bool) -> Array:
        y: Array
        y, winners = self.operations.maxpool2d_forward(x, self.layer.pool_size, self.layer.ties)
        self._winners: Array | None = winners if training else None
        self._shape = x.shape
        return y

    def backward(self, grad_y: Array) -> Array:
        grad_x: Array = self.operations.maxpool2d_backward(grad_y, self._winners, self._shape, self.layer.pool_size)
        return grad_x


class FlattenStage(Stage):
    def forward(self, x: Array, training: bool) -> Array:
        self._shape = x.shape
        y: Array = x.reshape(len(x), -1)
        return y

    def backward(self, grad_y: Array) -> Array:
        grad_x: Array = grad_y.reshape(self._shape)
        return grad_x


class DenseStage(Stage):
    """Without the activation: softmax is the plan's, with the loss."""

    def forward(self, x: Array, training: bool) -> Array:
        self._x = x if training else None
        y: Array = self.operations.dense_forward(x, self.value("kernel"), self.value("bias"))
        return y

    def backward(self, grad_y: Array) -> Array:
        grad_x: Array
        grad_x, *gradients = self.operations.dense_backward(grad_y, self._x, self.value("kernel"))
        self.gradients = gradients[: len(self.parameters)]
        return grad_x


_STAGES: dict[type[Layer], Callable[[Layer, ModuleType], Stage]] = {
    Rescaling: RescalingStage,
    Conv2D: Conv2DStage,
    MaxPooling2D: MaxPooling2DStage,
    Flatten: FlattenStage,
    Dense: DenseStage,
}


def plan(layers: Sequence[Layer], backend: str, dtype: Any) -> StagePlan:
    """One stage a layer, on `backend`, computing in `dtype`.

    Raises:
        ArgumentError: a layer has no stage, or softmax comes before the last layer.
    """
    operations = backends.get(backend)
    stages = []
    for position, layer in enumerate(layers):
        if getattr(layer, "activation", None) == "softmax" and position < len(layers) - 1:
            raise ArgumentError(f"{layer.label}: activation='softmax' is available on the last layer only")
        if type(layer) not in _STAGES:
            raise ArgumentError(f"{layer.label}: there is no stage that runs such a layer")
        stages.append(_STAGES[type(layer)](layer, operations))
    return StagePlan(stages, operations, dtype, ends_in_softmax(layers))


def ends_in_softmax(layers: Sequence[Layer]) -> bool:
    """Whether the last layer's activation is softmax."""
    return bool(layers) and getattr(layers[-1], "activation", None) == "softmax"


#: The loss tells whether training diverged; numpy's warnings would only name a line of ours.
_quiet = np.errstate(over="ignore", invalid="ignore")


class StagePlan:
    """Stages from the images to the logits, then softmax with the loss.

    Args:
        stages: in order.
        operations: the backend's module.
        dtype: what images are cast to, a batch at a time.
        softmax: whether the model's output is the softmax of the last stage's.
    """

    def __init__(self, stages: list[Stage], operations: ModuleType, dtype: Any, softmax: bool) -> None:
        self.stages = stages
        self.operations = operations
        self.dtype = dtype
        self.softmax = softmax
        learning = [i for i, s in enumerate(stages) if s.parameters and s.layer.trainable]
        #: Gradients are not wanted below the first stage that learns.
        self._lowest = learning[0] if learning else len(stages)

    def prepare(self, images: Array) -> Array:
        return images

    def warm_up(self, images: Array, labels: Labels, batch_size: int, optimizer: Optimizer) -> None:
        logits = self.forward(images[:1], training=True)
        self.backward(self.operations.softmax_cross_entropy(logits, labels[:1])[2])

    def forward(self, batch: Array, training: bool = False) -> Array:
        """The logits of a batch: the last stage's output."""
        x = np.ascontiguousarray(batch, self.dtype)
        for stage in self.stages:
            x = stage.forward(x, training)
        return x

    def backward(self, grad_logits: Array) -> None:
        """Leave every stage's `gradients`, from the gradient with respect to the logits."""
        gradient = grad_logits
        for stage in reversed(self.stages[self._lowest :]):
            gradient = stage.backward(gradient)

    @_quiet
    def train(
        self, images: Array, labels: Labels, order: Labels, batch_size: int, optimizer: Optimizer
    ) -> tuple[float, int, int]:
        loss_sum, correct = 0.0, 0
        learning = [s for s in self.stages if s.parameters and s.layer.trainable]
        parameters = [p for s in learning for p in s.parameters]
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            truth = labels[chosen]
            logits = self.forward(images[chosen], training=True)
            losses, _, grad_logits = self.operations.softmax_cross_entropy(logits, truth)
            if not np.isfinite(losses).all():
                return loss_sum, correct, start + int(np.flatnonzero(~np.isfinite(losses))[0])
            self.backward(grad_logits / grad_logits.dtype.type(len(chosen)))
            optimizer.apply(parameters, [g for s in learning for g in s.gradients])
            loss_sum += float(losses.sum(dtype=np.float64))
            correct += int((logits.argmax(axis=1) == truth).sum())
        return loss_sum, correct, len(order)

    @_quiet
    def evaluate(self, images: Array, labels: Labels, batch_size: int | None) -> tuple[float, int]:
        loss_sum, correct = 0.0, 0
        for part in slices(len(images), batch_size or 256):
            logits = self.forward(images[part])
            losses, _, _ = self.operations.softmax_cross_entropy(logits, labels[part])
            loss_sum += float(losses.sum(dtype=np.float64))
            correct += int((logits.argmax(axis=1) == labels[part]).sum())
        return loss_sum, correct

    @_quiet
    def predict(self, images: Array, batch_size: int | None) -> Array:
        parts = []
        for part in slices(len(images), batch_size or 256):
            y = self.forward(images[part])
            parts.append(self.operations.softmax(y) if self.softmax else y)
        return np.concatenate(parts)
