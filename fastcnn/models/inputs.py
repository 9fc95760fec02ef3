"""Checks of the images, labels and weights that `fit`, `evaluate` and `predict` are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcnn import arguments, stages
from fastcnn.errors import ArgumentError
from fastcnn.layers import (
    AveragePooling2D,
    Conv2D,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Layer,
    MaxPooling2D,
    ZeroPadding2D,
)
from fastcnn.layers.augmentation import RandomTransformation
from fastcnn.layers.base import Array, Shape
from fastcnn.losses import Loss, MeanSquaredError
from fastcnn.training import Samples

#: Layers that need a channel axis.
_IMAGE_LAYERS = (
    AveragePooling2D,
    Conv2D,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    MaxPooling2D,
    RandomTransformation,
    ZeroPadding2D,
)


def numbers(x: ArrayLike, prefix: str = "") -> Array:
    """`x` as an array of real numbers; `prefix` is put before the messages.

    Raises:
        ArgumentError: it is none, or has no samples.
    """
    try:
        array = np.asarray(x)
    except ValueError:
        raise ArgumentError(f"{prefix}x: the images differ in shape; expected one array") from None
    if array.dtype.kind not in "fiub":
        raise ArgumentError(f"{prefix}x has dtype {array.dtype}; expected an array of numbers")
    if not array.size:
        raise ArgumentError(f"{prefix}x is empty (shape {array.shape}); expected at least one image")
    return array


def infer_shape(images: Array, layers: Sequence[Layer]) -> Shape:
    """The shape to build a model for: that of `images`, with one channel where layers need channels."""
    needs_channels = any(isinstance(layer, _IMAGE_LAYERS) for layer in layers)
    return (*images.shape, 1) if images.ndim == 3 and needs_channels else images.shape


def fit_shape(images: Array, shape: Shape, prefix: str = "") -> Array:
    """`images` as (N, *shape); a channel axis of size 1 may be missing.

    Raises:
        ArgumentError: they have another shape.
    """
    if images.shape[1:] == shape:
        return images
    if shape[-1] == 1 and images.shape[1:] == shape[:-1]:
        return images[..., None]
    expected = ", ".join(["N", *map(str, shape)])
    hint = "; for a single one pass x[None]" if images.shape == shape else ""
    raise ArgumentError(f"{prefix}x has shape {images.shape}; expected ({expected}){hint}")


def check_loss(loss: Loss, layers: Sequence[Layer], accuracies: Sequence[str]) -> None:
    """Raise an ArgumentError unless the model's output is what the loss and the metrics take."""
    output = layers[-1].output_shape
    if isinstance(loss, MeanSquaredError):
        if accuracies and (len(output) != 1 or output[0] < 2):
            needs = "needs one row of classes an image"
            raise ArgumentError(f"metrics: {accuracies[0]!r} {needs}; the model's output is {output}: leave it out")
        return
    if len(output) != 1:
        needs = "needs one row of classes an image"
        raise ArgumentError(f"loss {loss.name!r} {needs}; the model's output is {output}: end in Dense(classes)")
    if loss.from_logits == stages.ends_in_softmax(layers):
        ending = "ends in softmax" if loss.from_logits else "does not end in softmax"
        remedy = "leave from_logits=False" if loss.from_logits else "let it, or pass from_logits=True"
        raise ArgumentError(f"loss {loss.name!r}: from_logits={loss.from_logits}, but the model {ending}; {remedy}")


def split(samples: Samples, share: float) -> tuple[Samples, Samples]:
    """The first samples for training and the last `share` of them for validation.

    Raises:
        ArgumentError: one of the two would be empty.
    """
    share = arguments.real("validation_split", share, least=0.0)
    first = int(len(samples) * (1.0 - share))
    if not 0 < first < len(samples):
        raise ArgumentError(f"validation_split={share:g} of {len(samples)} samples leaves none on one side")
    weights = samples.weights
    kept = Samples(samples.images[:first], samples.labels[:first], None if weights is None else weights[:first])
    last = Samples(samples.images[first:], samples.labels[first:], None if weights is None else weights[first:])
    return kept, last


def sample_weights(
    labels: NDArray[Any],
    sample_weight: ArrayLike | None,
    class_weight: Mapping[int, float] | None,
    outputs: int,
) -> NDArray[np.float64] | None:
    """How much each sample's loss counts, (N,): the product of both kinds of weight, or None without any.

    Args:
        labels: what the loss made of the labels.
        sample_weight: (N,), at least 0.
        class_weight: weights by class number; classes that are not in it weigh 1.
        outputs: of the model, one a class.

    Raises:
        ArgumentError: they are no such numbers, or there are no such classes to weigh.
    """
    if sample_weight is None and class_weight is None:
        return None
    weights = np.ones(len(labels))
    if sample_weight is not None:
        given = np.asarray(sample_weight)
        if given.shape != (len(labels),) or given.dtype.kind not in "fiub":
            raise ArgumentError(f"sample_weight is {given.dtype} {given.shape}; expected numbers ({len(labels)},)")
        if not (np.isfinite(given) & (given >= 0)).all():
            raise ArgumentError("sample_weight holds a negative or not finite number; expected at least 0")
        weights *= given
    if class_weight is not None:
        if not isinstance(class_weight, Mapping):
            raise ArgumentError(f"class_weight={class_weight!r}: expected a dict of class numbers and their weights")
        if labels.ndim > 2:
            raise ArgumentError(f"class_weight: labels of shape {labels.shape} have no classes; use sample_weight")
        classes = labels if labels.ndim == 1 else labels.argmax(axis=1)
        for label, weight in class_weight.items():
            factor = arguments.real(f"class_weight[{label!r}]", weight, least=0.0)
            number = arguments.integer("class_weight: class", label, least=0)
            if number >= outputs:
                raise ArgumentError(f"class_weight: there is no class {number}; the model has 0 to {outputs - 1}")
            weights[classes == number] *= factor
    return weights
