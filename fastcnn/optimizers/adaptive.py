"""Optimizers that scale each weight's step by the gradients it had: Adam, AdamW, RMSprop, Adadelta.

Formulas and defaults are Keras', which differ from the papers' in where epsilon stands.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastcnn import arguments
from fastcnn.errors import ArgumentError
from fastcnn.optimizers.base import Array, Optimizer
from fastcnn.optimizers.schedules import LearningRateSchedule

Rate = float | LearningRateSchedule | dict[str, Any]


class Adam(Optimizer):
    """Kingma and Ba, "Adam", 2015, in the form before their section 2.1 ("epsilon hat"), as Keras has it.

    At step t, counted from 1: ``m += (g - m) * (1 - beta_1)``, ``v += (g * g - v) * (1 - beta_2)``,
    ``w -= m * a / (sqrt(v) + epsilon)`` with ``a = learning_rate * sqrt(1 - beta_2 ** t) / (1 - beta_1 ** t)``.
    With `amsgrad` the greatest v so far stands in v's place (Reddi, Kale and Kumar, 2018).

    Args:
        learning_rate: positive, or a schedule.
        beta_1, beta_2: from 0 to less than 1.
        epsilon: positive.
        amsgrad: the variant.
        options: `weight_decay`, `clipnorm`, ...: those of `Optimizer`.
    """

    default_name = "adam"
    kernel = "adam"

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        self.beta_1, self.beta_2 = _share(self, "beta_1", beta_1), _share(self, "beta_2", beta_2)
        self.epsilon = arguments.real(f"{type(self).__name__}: epsilon", epsilon, above=0.0)
        self.amsgrad = arguments.flag(f"{type(self).__name__}: amsgrad", amsgrad)
        self.states = 3 if self.amsgrad else 2

    def step(self, value: Array, gradient: Array, rate: float, *states: Array) -> None:
        momentum, velocity = states[:2]
        alpha = self._alpha(rate)
        momentum += (gradient - momentum) * (1.0 - self.beta_1)
        velocity += (gradient * gradient - velocity) * (1.0 - self.beta_2)
        if self.amsgrad:
            velocity = np.maximum(states[2], velocity, out=states[2])
        value -= momentum * alpha / (np.sqrt(velocity) + self.epsilon)

    def _alpha(self, rate: float) -> float:
        t = self.iterations + 1
        return rate * math.sqrt(1.0 - self.beta_2**t) / (1.0 - self.beta_1**t)

    def kernel_numbers(self, rate: float) -> tuple[float, ...] | None:
        return None if self.amsgrad else (self._alpha(rate), self.beta_1, self.beta_2, self.epsilon)

    def get_config(self) -> dict[str, Any]:
        own = {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon, "amsgrad": self.amsgrad}
        return {**super().get_config(), **own}


class AdamW(Adam):
    """`Adam` with weight decay: before each step ``w -= w * weight_decay * learning_rate``.

    Loshchilov and Hutter, "Decoupled weight decay regularization", 2019.

    Args:
        learning_rate: positive, or a schedule.
        weight_decay: at least 0.
        beta_1, beta_2, epsilon, amsgrad, options: as for `Adam`.
    """

    default_name = "adamw"
    kernel = "adam"

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay=weight_decay, **options)


class RMSprop(Optimizer):
    """Hinton, "Neural networks for machine learning", 2012, lecture 6e, with Keras' momentum and centring.

    ``v = rho * v + (1 - rho) * g * g``, ``w -= learning_rate * g / sqrt(v + epsilon)``. With `momentum` that change is
    added to ``m = momentum * m + change`` and ``w -= m``. With `centered` the square of the mean gradient, kept
    likewise, is subtracted from v.

    Args:
        learning_rate: positive, or a schedule.
        rho: from 0 to less than 1.
        momentum: from 0 to less than 1.
        epsilon: positive.
        centered: the variant.
        options: `weight_decay`, `clipnorm`, ...: those of `Optimizer`.
    """

    default_name = "rmsprop"
    kernel = "rmsprop"

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        self.rho, self.momentum = _share(self, "rho", rho), _share(self, "momentum", momentum)
        self.epsilon = arguments.real("RMSprop: epsilon", epsilon, above=0.0)
        self.centered = arguments.flag("RMSprop: centered", centered)
        self.states = 3 if self.momentum or self.centered else 1

    def step(self, value: Array, gradient: Array, rate: float, *states: Array) -> None:
        velocity = states[0]
        velocity *= self.rho
        velocity += (1.0 - self.rho) * (gradient * gradient)
        denominator = velocity + self.epsilon
        if self.centered:
            average = states[2]
            average *= self.rho
            average += (1.0 - self.rho) * gradient
            denominator -= average * average
        change = rate * gradient / np.sqrt(denominator)
        if self.momentum:
            momentum = states[1]
            momentum *= self.momentum
            momentum += change
            change = momentum
        value -= change

    def kernel_numbers(self, rate: float) -> tuple[float, ...] | None:
        return (rate, self.rho, self.epsilon) if self.states == 1 else None

    def get_config(self) -> dict[str, Any]:
        own = {"rho": self.rho, "momentum": self.momentum, "epsilon": self.epsilon, "centered": self.centered}
        return {**super().get_config(), **own}


class Adadelta(Optimizer):
    """Zeiler, "Adadelta", 2012, algorithm 1, times a learning rate.

    ``a = rho * a + (1 - rho) * g * g``, ``d = g * sqrt(u + epsilon) / sqrt(a + epsilon)``,
    ``u = rho * u + (1 - rho) * d * d``, ``w -= learning_rate * d``. The paper's learning rate is 1, Keras' is 0.001.

    Args:
        learning_rate: positive, or a schedule.
        rho: from 0 to less than 1.
        epsilon: positive.
        options: `weight_decay`, `clipnorm`, ...: those of `Optimizer`.
    """

    default_name = "adadelta"
    kernel = "adadelta"
    states = 2

    def __init__(self, learning_rate: Rate = 0.001, rho: float = 0.95, epsilon: float = 1e-7, **options: Any) -> None:
        super().__init__(learning_rate, **options)
        self.rho = _share(self, "rho", rho)
        self.epsilon = arguments.real("Adadelta: epsilon", epsilon, above=0.0)

    def step(self, value: Array, gradient: Array, rate: float, *states: Array) -> None:
        gradients, changes = states
        gradients *= self.rho
        gradients += (1.0 - self.rho) * (gradient * gradient)
        change = gradient * np.sqrt((changes + self.epsilon) / (gradients + self.epsilon))
        changes *= self.rho
        changes += (1.0 - self.rho) * (change * change)
        value -= rate * change

    def kernel_numbers(self, rate: float) -> tuple[float, ...] | None:
        return rate, self.rho, self.epsilon

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rho": self.rho, "epsilon": self.epsilon}


def _share(optimizer: Optimizer, name: str, value: Any) -> float:
    """A number from 0 to less than 1."""
    share = arguments.real(f"{type(optimizer).__name__}: {name}", value, least=0.0)
    if share >= 1.0:
        raise ArgumentError(f"{type(optimizer).__name__}: {name}={value!r}: expected a number from 0 to less than 1")
    return share
