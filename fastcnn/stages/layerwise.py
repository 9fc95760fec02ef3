"""Stages one after the other: one a layer and one more for its activation, or fused ones where a backend has them."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from fastcnn import backends
from fastcnn.errors import ArgumentError
from fastcnn.layers import (
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Layer,
    LeakyReLU,
    MaxPooling2D,
    RandomFlip,
    RandomRotation,
    RandomTranslation,
    RandomZoom,
    ReLU,
    Rescaling,
    Reshape,
    Softmax,
    ZeroPadding2D,
)
from fastcnn.layers.base import Array
from fastcnn.losses import Loss
from fastcnn.optimizers import Optimizer
from fastcnn.stages import activations, augmentation, objective, pooling, shaping, weighted
from fastcnn.stages.base import Labels, slices
from fastcnn.stages.objective import Objective
from fastcnn.stages.reading import Reader
from fastcnn.stages.stage import Stage

_STAGES: dict[type[Layer], Callable[[Layer, ModuleType], Stage]] = {
    Rescaling: shaping.RescalingStage,
    Conv2D: weighted.Conv2DStage,
    ZeroPadding2D: shaping.ZeroPadding2DStage,
    MaxPooling2D: pooling.MaxPooling2DStage,
    AveragePooling2D: pooling.AveragePooling2DStage,
    GlobalMaxPooling2D: pooling.GlobalMaxPooling2DStage,
    GlobalAveragePooling2D: pooling.GlobalAveragePooling2DStage,
    BatchNormalization: weighted.BatchNormalizationStage,
    Flatten: shaping.ReshapeStage,
    Reshape: shaping.ReshapeStage,
    Dense: weighted.DenseStage,
}
#: Layers that draw from the model's generator in training.
_DRAWING: dict[type[Layer], Callable[..., Stage]] = {
    Dropout: shaping.DropoutStage,
    RandomTranslation: augmentation.RandomTransformationStage,
    RandomRotation: augmentation.RandomTransformationStage,
    RandomZoom: augmentation.RandomTransformationStage,
    RandomFlip: augmentation.RandomTransformationStage,
}
#: Layers that are nothing but an activation.
_ACTIVATIONS = (Activation, ReLU, LeakyReLU, Softmax)


def plan(
    layers: Sequence[Layer],
    backend: str,
    dtype: Any,
    loss: Loss | None = None,
    generator: np.random.Generator | None = None,
    fused: bool = True,
) -> StagePlan:
    """The stages of `layers` on `backend`, computing in `dtype`.

    Args:
        layers: a model's layers, built.
        backend: the backend's name.
        dtype: what images are cast to, a batch at a time.
        loss: None is cross-entropy.
        generator: what Dropout and augmentation draw from; None is a fresh one.
        fused: whether neighbours may run as one stage.

    Raises:
        ArgumentError: a layer has no stage.
    """
    operations = backends.get(backend)
    generator = generator or np.random.default_rng()
    fusing = _fusing() if fused and backend == "numba" else None
    reader, stages = fusing.begin(layers, operations) if fusing else (Reader(dtype), [])
    taken = len(stages)
    while taken < len(layers):
        if fusing and (together := fusing.take(layers[taken:], operations, generator)) is not None:
            stages += together[0]
            taken += together[1]
            continue
        layer = layers[taken]
        taken += 1
        if type(layer) in _STAGES:
            stages.append(_STAGES[type(layer)](layer, operations))
        elif type(layer) in _DRAWING:
            stages.append(_DRAWING[type(layer)](layer, operations, generator))
        elif type(layer) not in _ACTIVATIONS:
            raise ArgumentError(f"{layer.label}: there is no stage that runs such a layer")
        stages += activations.of(layer, operations)
    kernels = importlib.import_module("fastcnn.backends.numba.updates") if backend == "numba" else None
    objective = (fusing.FusedObjective if fusing else Objective)(operations, loss)
    return StagePlan(reader, stages, objective, kernels)


def _fusing() -> ModuleType:
    """Loads Numba, which the other backends do without."""
    return importlib.import_module("fastcnn.stages.fused")


def ends_in_softmax(layers: Sequence[Layer]) -> bool:
    """Whether the model's output is that of a softmax."""
    return bool(layers) and (type(layers[-1]) is Softmax or getattr(layers[-1], "activation", None) == "softmax")


#: The loss tells whether training diverged; numpy's warnings would only name a line of ours.
_quiet = np.errstate(over="ignore", invalid="ignore")


#: Images that warming up compiled kernels takes besides a single one: enough for those that pay off for many only.
WARM_UP = 32


class StagePlan:
    """Stages from the images to the outputs; a softmax at the end is left to the loss where that takes logits.

    Args:
        reader: what makes the first stage's input.
        stages: in order.
        objective: the loss.
        kernels: the compiled steps of optimizers, if the backend has them.
    """

    def __init__(
        self, reader: Reader, stages: list[Stage], objective: Objective, kernels: ModuleType | None = None
    ) -> None:
        head = stages[-1] if stages and isinstance(stages[-1], activations.SoftmaxStage) else None
        self.head = head if objective.takes_logits else None
        self.stages = stages if self.head is None else stages[:-1]
        self._reader = reader
        self.objective = objective
        self._kernels = kernels
        self._warm: set[int] = set()

    def prepare(self, images: Array) -> Array:
        return images

    @_quiet
    def warm_up(self, images: Array, labels: Labels, batch_size: int, optimizer: Optimizer) -> None:
        counts = {1, min(batch_size, len(labels), 1 if self._kernels is None else WARM_UP)}
        with self.unchanged_generators():
            for count in sorted(counts - self._warm):
                outputs = self.forward(images, np.arange(count, dtype=np.int64), training=True, keep=True)
                self.backward(self.objective.measure(outputs, labels[:count])[1])
        self._warm |= counts
        for parameter in [p for stage in self.stages for p in stage.parameters][:1]:
            optimizer.warm_up(parameter, self._kernels)

    @contextmanager
    def unchanged_generators(self) -> Iterator[None]:
        """Afterwards the generators that masks are drawn from are where they were."""
        drawing = (shaping.DropoutStage, augmentation.RandomTransformationStage)
        generators = [s.generator.bit_generator for s in self.stages if isinstance(s, drawing)]
        states = [generator.state for generator in generators]
        try:
            yield
        finally:
            for generator, state in zip(generators, states, strict=True):
                generator.state = state

    def forward(self, images: Array, chosen: Labels | slice, training: bool = False, keep: bool = False) -> Array:
        """The last stage's output for the batch ``images[chosen]``: the logits where softmax is left to the loss."""
        x = self._reader.read(images, chosen)
        for stage in self.stages:
            x = stage.forward(x, training, keep)
        return x

    def backward(self, grad_outputs: Array, whole: bool = False) -> Array:
        """Leave every stage's `gradients`, from the gradient with respect to what `forward` returned.

        Args:
            grad_outputs: that gradient.
            whole: whether to go on, below the first stage that learns, to the input.

        Returns:
            The gradient with respect to the input if `whole`; else nothing of use.
        """
        lowest = 0 if whole else next((i for i, stage in enumerate(self.stages) if stage.learns), len(self.stages))
        gradient = grad_outputs
        for index in range(len(self.stages) - 1, lowest - 1, -1):
            self.stages[index].wants_input = whole or index > lowest
            gradient = self.stages[index].backward(gradient)
        return gradient

    @_quiet
    def train(
        self,
        images: Array,
        labels: Labels,
        order: Labels,
        batch_size: int,
        optimizer: Optimizer,
        weights: Array | None = None,
    ) -> tuple[float, int, int]:
        loss_sum, correct = 0.0, 0
        learning = [s for s in self.stages if s.learns]
        parameters = [p for s in learning for p in s.parameters if p.trainable]
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            shares = None if weights is None else weights[chosen]
            outputs = self.forward(images, chosen, training=True, keep=True)
            losses, gradients, right = self.objective.measure(outputs, labels[chosen])
            loss = objective.total(losses)
            if not math.isfinite(loss) and (wrong := objective.first_not_finite(losses)) is not None:
                return loss_sum, correct, start + wrong
            self.backward(objective.mean_gradient(gradients, shares))
            changes = [g for s in learning for p, g in zip(s.parameters, s.gradients, strict=True) if p.trainable]
            optimizer.apply(parameters, changes, self._kernels)
            for stage in self.stages:
                stage.commit()
            loss_sum += loss if shares is None else objective.total(objective.weighted(losses, shares))
            correct += right
        return loss_sum, correct, len(order)

    @_quiet
    def evaluate(
        self, images: Array, labels: Labels, batch_size: int | None, weights: Array | None = None
    ) -> tuple[float, int]:
        loss_sum, correct = 0.0, 0
        for part in slices(len(images), batch_size or 256):
            outputs, shares = self.forward(images, part), None if weights is None else weights[part]
            losses, _, right = self.objective.measure(outputs, labels[part])
            loss_sum += objective.total(objective.weighted(losses, shares))
            correct += right
        return loss_sum, correct

    @_quiet
    def predict(self, images: Array, batch_size: int | None) -> Array:
        outputs: Array | None = None
        for part in slices(len(images), batch_size or 256):
            y = self.forward(images, part)
            if self.head is not None:
                y = self.head.forward(y, False, False)
            if outputs is None:
                outputs = np.empty((len(images), *y.shape[1:]), y.dtype)
            outputs[part] = y  # a copy: stages work in the same arrays for the next part
        assert outputs is not None
        return outputs

    @_quiet
    def gradients(
        self, images: Array, labels: Labels, training: bool, weights: Array | None = None
    ) -> tuple[float, list[Array], Array]:
        """The mean loss of one batch, and its gradients for every parameter and for the images.

        Nothing changes: neither weights nor moving statistics, nor what Dropout will draw next.
        """
        with self.unchanged_generators():
            outputs = self.forward(images, slice(None), training, keep=True)
        losses, gradients, _ = self.objective.measure(outputs, labels)
        loss = objective.total(objective.weighted(losses, weights)) / len(losses)
        grad_images = self.backward(objective.mean_gradient(gradients, weights), whole=True).copy()
        return loss, [g.copy() for s in self.stages for g in s.gradients], grad_images
