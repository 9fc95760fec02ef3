"""Optimizers under Keras' names. Only they write a model's weights (and the fused plan: plain SGD)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from fastcnn import arguments
from fastcnn.errors import ArgumentError

if TYPE_CHECKING:
    from fastcnn.layers.base import Parameter

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "weight_decay": (None, 0, 0.0),
    "clipnorm": (None,),
    "clipvalue": (None,),
    "global_clipnorm": (None,),
    "use_ema": (False,),
    "decay": (0, 0.0),
}


class Optimizer:
    """The base of all optimizers.

    Args:
        learning_rate: positive; `lr` is its old name.
        name: only for display.

    Attributes:
        iterations: how many steps were taken.
    """

    default_name = "optimizer"

    def __init__(
        self, learning_rate: float, *, lr: float | None = None, name: str | None = None, **unknown: Any
    ) -> None:
        kind = type(self).__name__
        if unknown.get("decay"):
            instead = "lower optimizer.learning_rate in a callback's on_epoch_begin instead"
            raise ArgumentError(f"{kind}: decay={unknown['decay']!r} was removed, as in Keras; {instead}")
        arguments.refuse(kind, unknown, type(self).__init__, _NEUTRAL)
        self.learning_rate = learning_rate if lr is None else lr
        self.name = self.default_name if name is None else name
        self.iterations = 0

    @property
    def learning_rate(self) -> float:
        """The step's length; it may be set between batches."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._learning_rate = arguments.real("learning_rate", value, above=0.0)

    @property
    def lr(self) -> float:
        """The old name of `learning_rate`."""
        return self.learning_rate

    @lr.setter
    def lr(self, value: float) -> None:
        self.learning_rate = value

    def apply(self, parameters: Sequence[Parameter], gradients: Sequence[NDArray[Any]]) -> None:
        """Take one step: change every parameter in place by its gradient (the mean over the batch)."""
        for parameter, gradient in zip(parameters, gradients, strict=True):
            self.update(parameter, gradient)
            parameter.changed()
        self.iterations += 1

    def update(self, parameter: Parameter, gradient: NDArray[Any]) -> None:
        """Change one parameter's value in place."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, fit for JSON."""
        return {"learning_rate": self.learning_rate, "name": self.name}


class SGD(Optimizer):
    """Stochastic gradient descent, with Keras' momentum.

    Without momentum ``w -= learning_rate * g``. With it ``v = momentum * v - learning_rate * g``, ``w += v``,
    or ``w += momentum * v - learning_rate * g`` with `nesterov` (Sutskever et al., 2013, as Keras writes it).

    Args:
        learning_rate: positive.
        momentum: from 0 to 1.
        nesterov: Nesterov's variant.
        lr: the old name of `learning_rate`.
    """

    default_name = "sgd"

    def __init__(
        self,
        learning_rate: float = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        *,
        lr: float | None = None,
        name: str | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__(learning_rate, lr=lr, name=name, **unknown)
        self.momentum = arguments.real("SGD: momentum", momentum, least=0.0)
        if self.momentum > 1.0:
            raise ArgumentError(f"SGD: momentum={momentum!r}: expected a number from 0 to 1")
        self.nesterov = arguments.flag("SGD: nesterov", nesterov)
        self._velocities: dict[Parameter, NDArray[Any]] = {}

    @property
    def plain(self) -> bool:
        """Whether a step is just ``w -= learning_rate * g``."""
        return type(self) is SGD and self.momentum == 0.0

    def update(self, parameter: Parameter, gradient: NDArray[Any]) -> None:
        change = -self.learning_rate * gradient
        if self.momentum:
            velocity = self._velocities.get(parameter)
            velocity = change if velocity is None else self.momentum * velocity + change
            self._velocities[parameter] = velocity
            change = self.momentum * velocity + change if self.nesterov else velocity
        parameter.value += change

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "momentum": self.momentum, "nesterov": self.nesterov}


OPTIMIZERS: dict[str, type[SGD]] = {"sgd": SGD}
_CLASSES = {cls.__name__: cls for cls in OPTIMIZERS.values()}


def get(optimizer: str | Optimizer | dict[str, Any]) -> Optimizer:
    """The optimizer called so, described so (`serialize`), or itself.

    Raises:
        ArgumentError: there is none of that name.
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, dict) and optimizer.get("class") in _CLASSES:
        return _CLASSES[optimizer["class"]](**optimizer.get("config", {}))
    if isinstance(optimizer, str):
        cls = OPTIMIZERS.get(optimizer.lower())
        if cls is not None:
            return cls()
    raise ArgumentError(f"optimizer={optimizer!r} is unknown; there are: {arguments.listing(OPTIMIZERS)}")


def serialize(optimizer: Optimizer) -> dict[str, Any]:
    """A description of `optimizer` fit for JSON, which `get` reads."""
    return {"class": type(optimizer).__name__, "config": optimizer.get_config()}
