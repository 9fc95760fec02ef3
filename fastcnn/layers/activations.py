"""Activations by their Keras names, and as layers of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastcnn import arguments
from fastcnn.errors import ArgumentError
from fastcnn.layers.base import NEUTRAL, Layer

#: What the argument `activation` takes. Softmax runs over the last axis; gelu is the exact one, with erf.
ACTIVATIONS = ("linear", "relu", "sigmoid", "tanh", "softmax", "gelu")


def get(owner: str, activation: Any) -> str:
    """The activation's name; None means ``"linear"``.

    Raises:
        ArgumentError: there is none of that name; the message lists those that exist.
    """
    if activation is None:
        return "linear"
    return arguments.choice(f"{owner}: activation", activation, ACTIVATIONS)


class Activation(Layer):
    """An activation as a layer of its own.

    Args:
        activation: ``"relu"``, ``"sigmoid"``, ``"tanh"``, ``"softmax"``, ``"gelu"`` or ``"linear"``.
        input_shape: the shape of one sample, on a model's first layer.

    Raises:
        ArgumentError: there is no such activation.
    """

    def __init__(
        self,
        activation: str,
        *,
        input_shape: Sequence[int] | None = None,
        name: str | None = None,
        trainable: bool = True,
        **unknown: Any,
    ) -> None:
        arguments.refuse("Activation", unknown, Activation.__init__, NEUTRAL)
        super().__init__(name=name, trainable=trainable, input_shape=input_shape)
        self.activation = get("Activation", activation)

    def get_config(self) -> dict[str, Any]:
        return {"activation": self.activation, **super().get_config()}


class ReLU(Layer):
    """``max(x, 0)``, or with a slope ``negative_slope * x`` where x is negative.

    Args:
        max_value: only None so far.
        negative_slope: at least 0.
        threshold: only 0 so far.
        input_shape: the shape of one sample, on a model's first layer.

    Raises:
        ArgumentError: an argument or its value is not available.
    """

    def __init__(
        self,
        max_value: float | None = None,
        negative_slope: float = 0.0,
        threshold: float = 0.0,
        *,
        input_shape: Sequence[int] | None = None,
        name: str | None = None,
        trainable: bool = True,
        **unknown: Any,
    ) -> None:
        arguments.refuse("ReLU", unknown, ReLU.__init__, NEUTRAL)
        super().__init__(name=name, trainable=trainable, input_shape=input_shape)
        if max_value is not None:
            raise arguments.not_yet("ReLU", "max_value", max_value, "None")
        if threshold != 0:
            raise arguments.not_yet("ReLU", "threshold", threshold, "0.0")
        self.negative_slope = arguments.real("ReLU: negative_slope", negative_slope, least=0.0)

    def get_config(self) -> dict[str, Any]:
        return {"negative_slope": self.negative_slope, **super().get_config()}


class LeakyReLU(Layer):
    """``x`` where it is positive, ``negative_slope * x`` elsewhere.

    Args:
        negative_slope: at least 0; `alpha` is its old name.
        input_shape: the shape of one sample, on a model's first layer.

    Raises:
        ArgumentError: the slope is no such number.
    """

    def __init__(
        self,
        negative_slope: float = 0.3,
        *,
        alpha: float | None = None,
        input_shape: Sequence[int] | None = None,
        name: str | None = None,
        trainable: bool = True,
        **unknown: Any,
    ) -> None:
        arguments.refuse("LeakyReLU", unknown, LeakyReLU.__init__, NEUTRAL)
        super().__init__(name=name, trainable=trainable, input_shape=input_shape)
        slope = negative_slope if alpha is None else alpha
        self.negative_slope = arguments.real("LeakyReLU: negative_slope", slope, least=0.0)

    def get_config(self) -> dict[str, Any]:
        return {"negative_slope": self.negative_slope, **super().get_config()}


class Softmax(Layer):
    """Probabilities over the last axis: ``exp(x) / sum(exp(x))``.

    Args:
        axis: only -1.
        input_shape: the shape of one sample, on a model's first layer.

    Raises:
        ArgumentError: the axis is another one.
    """

    def __init__(
        self,
        axis: int = -1,
        *,
        input_shape: Sequence[int] | None = None,
        name: str | None = None,
        trainable: bool = True,
        **unknown: Any,
    ) -> None:
        arguments.refuse("Softmax", unknown, Softmax.__init__, NEUTRAL)
        super().__init__(name=name, trainable=trainable, input_shape=input_shape)
        if axis != -1:
            raise ArgumentError(f"Softmax: axis={axis!r}: only the last axis is available; give -1")
