"""What all optimizers have: a learning rate, clipping, weight decay, an array or more of state a weight."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastcnn import arguments
from fastcnn.errors import ArgumentError
from fastcnn.optimizers import schedules
from fastcnn.optimizers.schedules import LearningRateSchedule

if TYPE_CHECKING:
    from fastcnn.layers.base import Parameter

Array = NDArray[Any]

_NEUTRAL: dict[str, tuple[Any, ...] | None] = {
    "loss_scale_factor": (None,),
    "gradient_accumulation_steps": (None,),
    "decay": (0, 0.0),
}

#: Numbers that are updated together: all their arrays stay in the processor's cache from one operation to the next.
BLOCK = 16_384


class Optimizer:
    """The base of all optimizers.

    A step clips the gradients, shrinks every weight by ``weight_decay * learning_rate`` of it, and then does
    what the subclass' `step` says, in this order, as Keras does.

    With `use_ema` a moving average of every weight is kept: the weight after the first step, and after each further one
    ``average = ema_momentum * average + (1 - ema_momentum) * weight`` (the idea: B. Polyak and
    A. Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992). At the end of `fit` the averages become
    the weights; for a validation with them after each epoch there is the callback `SwapEMAWeights`.

    Args:
        learning_rate: positive, or a schedule from `fastcnn.optimizers.schedules`; `lr` is its old name.
        weight_decay: at least 0, or None.
        clipnorm: each gradient's greatest Euclidean norm, or None.
        clipvalue: the greatest absolute value of a gradient's element, or None.
        global_clipnorm: the greatest norm of all the gradients together, or None.
        use_ema: whether to average the weights.
        ema_momentum: the share of the average that a step leaves, from 0 to 1.
        ema_overwrite_frequency: after how many steps the averages become the weights, again and again; None: at the
            end of `fit` only.
        name: only for display.

    Attributes:
        iterations: how many steps were taken.
    """

    default_name = "optimizer"
    #: How many arrays of state a weight has.
    states = 0
    #: The name of the compiled form of `step`, if the class (not one that it is derived from) has one.
    kernel: str

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule | dict[str, Any],
        *,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        lr: float | None = None,
        name: str | None = None,
        **unknown: Any,
    ) -> None:
        kind = type(self).__name__
        if unknown.get("decay"):
            instead = "give a schedule such as optimizers.schedules.ExponentialDecay as learning_rate instead"
            raise ArgumentError(f"{kind}: decay={unknown['decay']!r} was removed, as in Keras; {instead}")
        arguments.refuse(kind, unknown, type(self).__init__, _NEUTRAL)
        rate = learning_rate if lr is None else lr
        self._schedule: LearningRateSchedule | None = None
        if isinstance(rate, (LearningRateSchedule, dict)):
            self._schedule = schedules.get(rate)
        else:
            self._learning_rate = arguments.real("learning_rate", rate, above=0.0)
        decay = None if weight_decay is None else arguments.real(f"{kind}: weight_decay", weight_decay, least=0.0)
        self.weight_decay = decay
        limits = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
        given = {n: arguments.real(f"{kind}: {n}", v, above=0.0) for n, v in limits.items() if v is not None}
        if len(given) > 1:
            raise ArgumentError(f"{kind}: got {' and '.join(given)}; only one of the three can be given")
        self.clipnorm, self.clipvalue, self.global_clipnorm = (given.get(limit) for limit in limits)
        self.use_ema = arguments.flag(f"{kind}: use_ema", use_ema)
        self.ema_momentum = arguments.real(f"{kind}: ema_momentum", ema_momentum, least=0.0)
        if self.ema_momentum > 1.0:
            raise ArgumentError(f"{kind}: ema_momentum={ema_momentum!r}: expected a number from 0 to 1")
        every, label = ema_overwrite_frequency, f"{kind}: ema_overwrite_frequency"
        self.ema_overwrite_frequency = None if every is None else arguments.integer(label, every)
        self.name = self.default_name if name is None else name
        self.iterations = 0
        self._states: dict[Parameter, list[Array]] = {}

    @property
    def learning_rate(self) -> float:
        """The next step's length; it may be set between batches, but not where a schedule says it.

        Raises:
            ArgumentError: when set, it is not positive, or there is a schedule.
        """
        return self._learning_rate if self._schedule is None else self._schedule(self.iterations)

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        if self._schedule is not None:
            schedule = type(self._schedule).__name__
            raise ArgumentError(f"learning_rate={value!r}: it follows a schedule ({schedule}) and can't be set")
        self._learning_rate = arguments.real("learning_rate", value, above=0.0)

    @property
    def lr(self) -> float:
        """The old name of `learning_rate`."""
        return self.learning_rate

    @lr.setter
    def lr(self, value: float) -> None:
        self.learning_rate = value

    @property
    def only_steps(self) -> bool:
        """Whether there is neither schedule nor weight decay nor clipping nor averaging."""
        limits = (self.clipnorm, self.clipvalue, self.global_clipnorm)
        return self._schedule is None and not self.weight_decay and not self.use_ema and limits == (None, None, None)

    @property
    def arrays(self) -> int:
        """How many arrays are kept for a weight: `states`, and the average if there is one, which is the last."""
        return self.states + self.use_ema

    def apply(
        self, parameters: Sequence[Parameter], gradients: Sequence[Array], kernels: ModuleType | None = None
    ) -> None:
        """Take one step: change every parameter in place by its gradient (the mean over the batch).

        Args:
            parameters, gradients: as many of one as of the other.
            kernels: `fastcnn.backends.numba.updates` where compiled steps may be taken, on float32 weights.
        """
        rate = self.learning_rate
        decay = (self.weight_decay or 0.0) * rate
        # A class that is derived from one of ours may change its `step`, but has not its kernel.
        kernel = getattr(kernels, self.kernel) if kernels is not None and "kernel" in vars(type(self)) else None
        numbers = None if kernel is None else self.kernel_numbers(rate)
        for parameter, gradient in zip(parameters, self._clip(gradients), strict=True):
            states = self._states.get(parameter)
            first = states is None
            if states is None:
                states = self._states[parameter] = [np.zeros_like(parameter.value) for _ in range(self.arrays)]
            arrays = [array.reshape(-1) for array in (parameter.value, gradient, *states[: self.states])]
            if kernel is not None and numbers is not None and all(_is_plain(array) for array in arrays):
                kernel(*arrays, decay, *numbers)
            else:
                self._step_in_blocks(rate, *arrays)
            if self.use_ema:
                share = 1.0 if first else 1.0 - self.ema_momentum
                _average(states[-1].reshape(-1), arrays[0], share, kernels)
            parameter.changed()
        self.iterations += 1
        if self.use_ema and self.ema_overwrite_frequency and self.iterations % self.ema_overwrite_frequency == 0:
            self.finalize_variable_values()

    def finalize_variable_values(self) -> None:
        """Overwrite every weight with its average, if there are averages; `fit` does so at its end."""
        if self.use_ema:
            for parameter, states in self._states.items():
                parameter.value[...] = states[-1]
                parameter.changed()

    def warm_up(self, parameter: Parameter, kernels: ModuleType | None) -> None:
        """Compile or load what `apply` needs for a weight like `parameter`, and change nothing."""
        trial, weight = copy.copy(self), copy.copy(parameter)
        trial._states, weight.value = {}, np.zeros(1, parameter.value.dtype)
        trial.apply([weight], [weight.value.copy()], kernels)

    def _step_in_blocks(self, rate: float, *arrays: Array) -> None:
        for start in range(0, arrays[0].size, BLOCK):
            value, gradient, *states = (array[start : start + BLOCK] for array in arrays)
            if self.weight_decay:
                value -= value * (self.weight_decay * rate)
            self.step(value, gradient, rate, *states)

    def kernel_numbers(self, rate: float) -> tuple[float, ...] | None:
        """What the compiled step `kernel` takes after the arrays; None where it can't take this step."""
        return None

    def get_state(self, parameter: Parameter) -> list[Array]:
        """Copies of what is kept for a parameter: `arrays` of them, or none before its first step."""
        return [state.copy() for state in self._states.get(parameter, ())]

    def set_state(self, parameter: Parameter, states: Sequence[Array]) -> None:
        """Overwrite a parameter's state with arrays as `get_state` returns them.

        Raises:
            ArgumentError: their number differs from `arrays`, or one has not the parameter's shape.
        """
        shape, dtype = parameter.value.shape, parameter.value.dtype
        if len(states) != self.arrays or any(state.shape != shape for state in states):
            got = ", ".join(str(state.shape) for state in states)
            raise ArgumentError(f"{self.name}: state of {parameter.name} is {got}; expected {self.arrays} of {shape}")
        self._states[parameter] = [np.array(state, dtype, order="C") for state in states]

    def step(self, value: Array, gradient: Array, rate: float, *states: Array) -> None:
        """Change `value` and its `states` in place, element by element.

        Args:
            value: a flat part of a weight.
            gradient: the same part of its gradient; not to be changed.
            rate: the learning rate.
            states: the same part of `self.states` arrays, zero before the first step.
        """
        raise NotImplementedError

    def _clip(self, gradients: Sequence[Array]) -> list[Array]:
        if self.clipvalue is not None:
            return [np.clip(g, -self.clipvalue, self.clipvalue) for g in gradients]
        if self.clipnorm is not None:
            return [g * (self.clipnorm / max(_norm([g]), self.clipnorm)) for g in gradients]
        if self.global_clipnorm is not None:
            factor = self.global_clipnorm / max(_norm(gradients), self.global_clipnorm)
            return [g * factor for g in gradients]
        return list(gradients)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, fit for JSON."""
        rate = self.learning_rate if self._schedule is None else schedules.serialize(self._schedule)
        return {
            "learning_rate": rate,
            "weight_decay": self.weight_decay,
            "clipnorm": self.clipnorm,
            "clipvalue": self.clipvalue,
            "global_clipnorm": self.global_clipnorm,
            "use_ema": self.use_ema,
            "ema_momentum": self.ema_momentum,
            "ema_overwrite_frequency": self.ema_overwrite_frequency,
            "name": self.name,
        }


def _average(average: Array, value: Array, share: float, kernels: ModuleType | None) -> None:
    """Move a flat average by a share of its distance to the value."""
    if kernels is not None and _is_plain(average) and _is_plain(value):
        kernels.average(average, value, share)
        return
    for start in range(0, average.size, BLOCK):
        part = average[start : start + BLOCK]
        part += (value[start : start + BLOCK] - part) * share


def _is_plain(array: Array) -> bool:
    """Whether it is the kind of array that compiled steps are compiled for."""
    return array.dtype == np.float32 and array.flags.carray


def _norm(arrays: Sequence[Array]) -> float:
    """The Euclidean norm of all elements together."""
    return math.sqrt(sum(float(np.square(array, dtype=np.float64).sum()) for array in arrays))
