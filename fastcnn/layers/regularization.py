"""Dropout and BatchNormalization: layers that do one thing in training and another afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn import arguments, initializers
from fastcnn.errors import ArgumentError
from fastcnn.initializers import Initializer
from fastcnn.layers.base import NEUTRAL, Layer, Shape, WeightSpec


class Dropout(Layer):
    """In training sets a random share of its input to zero and divides the rest by 1 - `rate`; else does nothing.

    Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov, "Dropout", 2014; the division in training, as
    Keras has it, keeps the expected sum, so that nothing is left to do in inference.

    Args:
        rate: the share, at least 0 and less than 1.
        noise_shape: only None so far.
        seed: draws from a generator of the layer's own; None: from the model's.
        input_shape: the shape of one sample, on a model's first layer.

    Raises:
        ArgumentError: an argument or its value is not available.
    """

    def __init__(
        self,
        rate: float,
        noise_shape: None = None,
        seed: int | None = None,
        *,
        input_shape: Sequence[int] | None = None,
        name: str | None = None,
        trainable: bool = True,
        **unknown: Any,
    ) -> None:
        arguments.refuse("Dropout", unknown, Dropout.__init__, NEUTRAL)
        super().__init__(name=name, trainable=trainable, input_shape=input_shape)
        if noise_shape is not None:
            raise arguments.not_yet("Dropout", "noise_shape", noise_shape, "None")
        self.rate = arguments.real("Dropout: rate", rate, least=0.0)
        if self.rate >= 1.0:
            raise ArgumentError(f"Dropout: rate={rate!r}: expected a number from 0 to less than 1")
        self.seed = None if seed is None else arguments.integer("Dropout: seed", seed, least=0)
        #: The layer's own generator, or None.
        self.generator = None if self.seed is None else np.random.default_rng(self.seed)

    def get_config(self) -> dict[str, Any]:
        return {"rate": self.rate, "seed": self.seed, **super().get_config()}


class BatchNormalization(Layer):
    """Brings every channel (the last axis) to mean `beta` and standard deviation `gamma`.

    ``y = gamma * (x - mean) / sqrt(variance + epsilon) + beta``: in training with the mean and the variance of
    the batch, whose running means ``moving = momentum * moving + (1 - momentum) * batch`` serve in inference (Ioffe and
    Szegedy, "Batch normalization", 2015). The variance is divided by the count, as Keras does. Not `trainable`, it
    uses the moving statistics in training too, as Keras does.

    Weights, each (channels,): gamma with `scale`, beta with `center`, moving_mean, moving_variance; the last two
    are never trained.

    Args:
        axis: only -1, the channels.
        momentum: of the moving statistics, from 0 to 1.
        epsilon: positive; keeps the division finite.
        center, scale: whether there are beta and gamma; else 0 and 1.
        beta_initializer, gamma_initializer, moving_mean_initializer, moving_variance_initializer: names or objects
            from `fastcnn.initializers`.
        input_shape: the shape of one sample, on a model's first layer.

    Raises:
        ArgumentError: an argument or its value is not available.
    """

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: str | Initializer | dict[str, Any] = "zeros",
        gamma_initializer: str | Initializer | dict[str, Any] = "ones",
        moving_mean_initializer: str | Initializer | dict[str, Any] = "zeros",
        moving_variance_initializer: str | Initializer | dict[str, Any] = "ones",
        *,
        input_shape: Sequence[int] | None = None,
        name: str | None = None,
        trainable: bool = True,
        **unknown: Any,
    ) -> None:
        arguments.refuse("BatchNormalization", unknown, BatchNormalization.__init__, NEUTRAL)
        super().__init__(name=name, trainable=trainable, input_shape=input_shape)
        if axis != -1:
            raise ArgumentError(f"BatchNormalization: axis={axis!r}: only the last axis is available; give -1")
        self.momentum = arguments.real("BatchNormalization: momentum", momentum, least=0.0)
        if self.momentum > 1.0:
            raise ArgumentError(f"BatchNormalization: momentum={momentum!r}: expected a number from 0 to 1")
        self.epsilon = arguments.real("BatchNormalization: epsilon", epsilon, above=0.0)
        self.center = arguments.flag("BatchNormalization: center", center)
        self.scale = arguments.flag("BatchNormalization: scale", scale)
        self.beta_initializer = initializers.get(beta_initializer, "BatchNormalization: beta_initializer")
        self.gamma_initializer = initializers.get(gamma_initializer, "BatchNormalization: gamma_initializer")
        self.moving_mean_initializer = initializers.get(
            moving_mean_initializer, "BatchNormalization: moving_mean_initializer"
        )
        self.moving_variance_initializer = initializers.get(
            moving_variance_initializer, "BatchNormalization: moving_variance_initializer"
        )

    def weight_specs(self, input_shape: Shape) -> dict[str, WeightSpec]:
        shape = input_shape[-1:]
        specs = {"gamma": WeightSpec(shape, self.gamma_initializer)} if self.scale else {}
        if self.center:
            specs["beta"] = WeightSpec(shape, self.beta_initializer)
        specs["moving_mean"] = WeightSpec(shape, self.moving_mean_initializer, trainable=False)
        specs["moving_variance"] = WeightSpec(shape, self.moving_variance_initializer, trainable=False)
        return specs

    def get_config(self) -> dict[str, Any]:
        return {
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            "beta_initializer": initializers.serialize(self.beta_initializer),
            "gamma_initializer": initializers.serialize(self.gamma_initializer),
            "moving_mean_initializer": initializers.serialize(self.moving_mean_initializer),
            "moving_variance_initializer": initializers.serialize(self.moving_variance_initializer),
            **super().get_config(),
        }
