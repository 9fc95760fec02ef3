"""Stochastic gradient descent."""

from __future__ import annotations

from typing import Any

from fastcnn import arguments
from fastcnn.errors import ArgumentError
from fastcnn.optimizers.base import Array, Optimizer
from fastcnn.optimizers.schedules import LearningRateSchedule


class SGD(Optimizer):
    """Stochastic gradient descent, with Keras' momentum.

    Without momentum ``w -= learning_rate * g``. With it ``v = momentum * v - learning_rate * g``, ``w += v``,
    or ``w += momentum * v - learning_rate * g`` with `nesterov` (Sutskever et al., 2013, as Keras writes it).

    Args:
        learning_rate: positive, or a schedule.
        momentum: from 0 to 1.
        nesterov: Nesterov's variant.
        lr: the old name of `learning_rate`.
        options: `weight_decay`, `clipnorm`, ...: those of `Optimizer`.
    """

    default_name = "sgd"
    kernel = "sgd"

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule | dict[str, Any] = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        *,
        lr: float | None = None,
        name: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, lr=lr, name=name, **options)
        self.momentum = arguments.real("SGD: momentum", momentum, least=0.0)
        if self.momentum > 1.0:
            raise ArgumentError(f"SGD: momentum={momentum!r}: expected a number from 0 to 1")
        self.nesterov = arguments.flag("SGD: nesterov", nesterov)
        self.states = 1 if self.momentum else 0

    @property
    def plain(self) -> bool:
        """Whether a step is just ``w -= learning_rate * g``, at a learning rate that callers alone change."""
        return type(self) is SGD and self.momentum == 0.0 and self.only_steps

    def step(self, value: Array, gradient: Array, rate: float, *states: Array) -> None:
        change = -rate * gradient
        if states:
            (velocity,) = states
            velocity *= self.momentum
            velocity += change
            change = self.momentum * velocity + change if self.nesterov else velocity
        value += change

    def kernel_numbers(self, rate: float) -> tuple[float, ...] | None:
        return (rate, self.momentum, self.nesterov) if self.states else None

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "momentum": self.momentum, "nesterov": self.nesterov}
