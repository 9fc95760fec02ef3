"""Layers that move, turn or scale images at random in training, so that a network sees more than it was given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn import arguments
from fastcnn.errors import ArgumentError
from fastcnn.layers.base import NEUTRAL, Array, Layer, Shape, image_shape

FILL_MODES = ("reflect", "wrap", "nearest", "constant")
INTERPOLATIONS = ("bilinear", "nearest")
FLIPS = ("horizontal", "vertical", "horizontal_and_vertical")

#: What a factor may be: a number f, which means from -f to f, or the two bounds.
Factor = float | Sequence[float]


class RandomTransformation(Layer):
    """The base of them all: in training every image is transformed by a draw of its own; else nothing happens.

    Args:
        fill_mode: what lies outside an image a b c d: ``"reflect"`` (d c b a | a b c d | d c b a), ``"wrap"``
            (a b c d | a b c d | a b c d), ``"nearest"`` (a a a a | a b c d | d d d d), or ``"constant"``.
        interpolation: between pixels, ``"bilinear"`` or ``"nearest"``, which takes the lower, right one of two.
        seed: draws from a generator of the layer's own; None: from the model's.
        fill_value: what lies outside with ``"constant"``.
        input_shape: (height, width, channels), on a model's first layer.

    Raises:
        ArgumentError: an argument or its value is not available.
    """

    def __init__(
        self,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        *,
        input_shape: Sequence[int] | None = None,
        name: str | None = None,
        trainable: bool = True,
        **unknown: Any,
    ) -> None:
        kind = type(self).__name__
        arguments.refuse(kind, unknown, type(self).__init__, NEUTRAL)
        super().__init__(name=name, trainable=trainable, input_shape=input_shape)
        self.fill_mode = arguments.choice(f"{kind}: fill_mode", fill_mode, FILL_MODES)
        self.interpolation = arguments.choice(f"{kind}: interpolation", interpolation, INTERPOLATIONS)
        self.seed = None if seed is None else arguments.integer(f"{kind}: seed", seed, least=0)
        self.fill_value = arguments.real(f"{kind}: fill_value", fill_value)
        #: The layer's own generator, or None.
        self.generator = None if self.seed is None else np.random.default_rng(self.seed)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return image_shape(self, input_shape)

    def draw(self, samples: int, size: tuple[int, int], generator: np.random.Generator) -> Array:
        """A transformation for each of `samples` images of `size` (height, width).

        Returns:
            (samples, 2, 3): times (row, column, 1) of an output pixel it is the (row, column) that it is read from.
        """
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        return {
            "fill_mode": self.fill_mode,
            "interpolation": self.interpolation,
            "seed": self.seed,
            "fill_value": self.fill_value,
            **super().get_config(),
        }


class RandomTranslation(RandomTransformation):
    """Shifts every image by a random share of its height and width, not rounded to pixels.

    Args:
        height_factor: down; a number f: from -f to f, two numbers: the bounds. From -1 (up by the height) to 1.
        width_factor: to the right, likewise.
        fill_mode, interpolation, seed, fill_value, options: as for `RandomTransformation`.
    """

    def __init__(
        self,
        height_factor: Factor,
        width_factor: Factor,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(fill_mode, interpolation, seed, fill_value, **options)
        self.height_factor = _bounds("RandomTranslation: height_factor", height_factor)
        self.width_factor = _bounds("RandomTranslation: width_factor", width_factor)

    def draw(self, samples: int, size: tuple[int, int], generator: np.random.Generator) -> Array:
        transforms = np.tile(np.eye(2, 3), (samples, 1, 1))
        transforms[:, 0, 2] = -size[0] * generator.uniform(*self.height_factor, samples)
        transforms[:, 1, 2] = -size[1] * generator.uniform(*self.width_factor, samples)
        return transforms

    def get_config(self) -> dict[str, Any]:
        factors = {"height_factor": list(self.height_factor), "width_factor": list(self.width_factor)}
        return {**factors, **super().get_config()}


class RandomRotation(RandomTransformation):
    """Turns every image about its centre by a random angle.

    Args:
        factor: the angle as a share of a full turn, counter-clockwise; a number f: from -f to f, two numbers:
            the bounds. From -1 to 1.
        fill_mode, interpolation, seed, fill_value, options: as for `RandomTransformation`.
    """

    def __init__(
        self,
        factor: Factor,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(fill_mode, interpolation, seed, fill_value, **options)
        self.factor = _bounds("RandomRotation: factor", factor)

    def draw(self, samples: int, size: tuple[int, int], generator: np.random.Generator) -> Array:
        angles = 2.0 * math.pi * generator.uniform(*self.factor, samples)
        cosine, sine = np.cos(angles), np.sin(angles)
        # Rows grow downwards: this is the inverse of a turn against the clock.
        return _about_centre(np.array([[cosine, sine], [-sine, cosine]]).transpose(2, 0, 1), size)

    def get_config(self) -> dict[str, Any]:
        return {"factor": list(self.factor), **super().get_config()}


class RandomZoom(RandomTransformation):
    """Scales every image about its centre by a random factor.

    Args:
        height_factor: z makes room for ``1 + z`` times the image's height: above 0 it shrinks, below 0 it grows. A
            number f: from -f to f, two numbers: the bounds. From -1 to 1.
        width_factor: likewise; None: the height's draw, which keeps the aspect ratio.
        fill_mode, interpolation, seed, fill_value, options: as for `RandomTransformation`.
    """

    def __init__(
        self,
        height_factor: Factor,
        width_factor: Factor | None = None,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(fill_mode, interpolation, seed, fill_value, **options)
        self.height_factor = _bounds("RandomZoom: height_factor", height_factor)
        self.width_factor = None if width_factor is None else _bounds("RandomZoom: width_factor", width_factor)

    def draw(self, samples: int, size: tuple[int, int], generator: np.random.Generator) -> Array:
        scales = np.zeros((samples, 2, 2))
        scales[:, 0, 0] = scales[:, 1, 1] = 1.0 + generator.uniform(*self.height_factor, samples)
        if self.width_factor is not None:
            scales[:, 1, 1] = 1.0 + generator.uniform(*self.width_factor, samples)
        return _about_centre(scales, size)

    def get_config(self) -> dict[str, Any]:
        width = None if self.width_factor is None else list(self.width_factor)
        return {"height_factor": list(self.height_factor), "width_factor": width, **super().get_config()}


class RandomFlip(RandomTransformation):
    """Mirrors every image, or not: each with a chance of one half.

    Args:
        mode: ``"horizontal"``: left and right change places, ``"vertical"``: top and bottom do, or
            ``"horizontal_and_vertical"``: each of the two by a draw of its own.
        seed, options: as for `RandomTransformation`.
    """

    def __init__(self, mode: str = "horizontal_and_vertical", seed: int | None = None, **options: Any) -> None:
        super().__init__(seed=seed, **options)
        self.mode = arguments.choice("RandomFlip: mode", mode, FLIPS)

    def draw(self, samples: int, size: tuple[int, int], generator: np.random.Generator) -> Array:
        transforms = np.tile(np.eye(2, 3), (samples, 1, 1))
        for axis, direction in enumerate(("vertical", "horizontal")):
            if direction in self.mode:
                flipped = generator.random(samples) < 0.5
                transforms[flipped, axis, axis] = -1.0
                transforms[flipped, axis, 2] = size[axis] - 1.0
        return transforms

    def get_config(self) -> dict[str, Any]:
        return {"mode": self.mode, **super().get_config()}


def _bounds(name: str, factor: Any) -> tuple[float, float]:
    pair = factor if isinstance(factor, (tuple, list)) else (-abs(arguments.real(name, factor)), abs(factor))
    if len(pair) != 2:
        raise ArgumentError(f"{name}={factor!r}: expected one number or two, the bounds")
    low, high = sorted(arguments.real(name, bound) for bound in pair)
    if low < -1.0 or high > 1.0:
        raise ArgumentError(f"{name}={factor!r}: expected numbers from -1 to 1")
    return low, high


def _about_centre(matrices: Array, size: tuple[int, int]) -> Array:
    """(samples, 2, 2) matrices with the translation that leaves the centre of an image where it is."""
    centre = (np.array(size) - 1.0) / 2.0
    return np.concatenate([matrices, (centre - matrices @ centre)[:, :, None]], axis=2)
