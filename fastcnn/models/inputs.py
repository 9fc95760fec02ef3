"""Checks of the images and labels that `fit`, `evaluate` and `predict` are given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from fastcnn import arguments, stages
from fastcnn.errors import ArgumentError
from fastcnn.layers import Conv2D, Layer, MaxPooling2D
from fastcnn.layers.base import Array, Shape
from fastcnn.losses import Loss
from fastcnn.training import Samples


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
    needs_channels = any(isinstance(layer, (Conv2D, MaxPooling2D)) for layer in layers)
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


def check_loss(loss: Loss, layers: Sequence[Layer]) -> None:
    """Raise an ArgumentError unless the model's output is what the loss takes."""
    output = layers[-1].output_shape
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
    kept = Samples(samples.images[:first], samples.labels[:first])
    return kept, Samples(samples.images[first:], samples.labels[first:])
