"""Learning rates that follow the number of steps taken, under Keras' names (`OneCycle`: PyTorch's formula)."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from typing import Any

from fastcnn import absent, arguments
from fastcnn.errors import ArgumentError


class LearningRateSchedule:
    """The base of all schedules: called with the number of steps taken, returns the next step's learning rate.

    A subclass' constructor arguments are its attributes; `get_config` returns them.
    """

    def __call__(self, step: int) -> float:
        """The learning rate of step `step`, counted from 0."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, fit for JSON."""
        return dict(vars(self))


class ExponentialDecay(LearningRateSchedule):
    """``initial_learning_rate * decay_rate ** (step / decay_steps)``.

    Args:
        initial_learning_rate: positive.
        decay_steps: positive.
        decay_rate: positive; the factor every `decay_steps` steps.
        staircase: whether ``step / decay_steps`` is rounded down.
        name: only for display.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ) -> None:
        self.initial_learning_rate = _positive("ExponentialDecay: initial_learning_rate", initial_learning_rate)
        self.decay_steps = arguments.integer("ExponentialDecay: decay_steps", decay_steps)
        self.decay_rate = _positive("ExponentialDecay: decay_rate", decay_rate)
        self.staircase = arguments.flag("ExponentialDecay: staircase", staircase)
        self.name = name

    def __call__(self, step: int) -> float:
        periods = step / self.decay_steps
        return self.initial_learning_rate * self.decay_rate ** (math.floor(periods) if self.staircase else periods)


class CosineDecay(LearningRateSchedule):
    """Half a cosine from the initial learning rate to `alpha` times it, perhaps after a linear rise.

    With d = initial_learning_rate: ``d * ((1 - alpha) * (1 + cos(pi * step / decay_steps)) / 2 + alpha)``, and
    ``d * alpha`` after `decay_steps` (Loshchilov and Hutter, "SGDR", 2017). With `warmup_target` the rate rises in a
    line from `initial_learning_rate` to it in the first `warmup_steps`, then falls as above from there.

    Args:
        initial_learning_rate: at least 0, and positive without a rise.
        decay_steps: positive.
        alpha: the share of the rate that is left at the end.
        name: only for display.
        warmup_target: positive, or None for no rise.
        warmup_steps: how many steps the rise takes.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ) -> None:
        self.initial_learning_rate = arguments.real(
            "CosineDecay: initial_learning_rate", initial_learning_rate, least=0.0
        )
        self.decay_steps = arguments.integer("CosineDecay: decay_steps", decay_steps)
        self.alpha = arguments.real("CosineDecay: alpha", alpha, least=0.0)
        self.name = name
        self.warmup_target = None if warmup_target is None else _positive("CosineDecay: warmup_target", warmup_target)
        self.warmup_steps = arguments.integer("CosineDecay: warmup_steps", warmup_steps, least=0)

    def __call__(self, step: int) -> float:
        top, passed = self.initial_learning_rate, step
        if self.warmup_target is not None:
            if step < self.warmup_steps:
                rise = self.warmup_target - self.initial_learning_rate
                return self.initial_learning_rate + rise * step / self.warmup_steps
            top, passed = self.warmup_target, step - self.warmup_steps
        cosine = (1.0 + math.cos(math.pi * min(passed, self.decay_steps) / self.decay_steps)) / 2.0
        return top * ((1.0 - self.alpha) * cosine + self.alpha)


class PiecewiseConstantDecay(LearningRateSchedule):
    """``values[0]`` up to and including step ``boundaries[0]``, then ``values[1]``, and so on.

    Args:
        boundaries: rising numbers of steps.
        values: positive, one more than `boundaries`.
        name: only for display.

    Raises:
        ArgumentError: their numbers don't fit each other, or the boundaries don't rise.
    """

    def __init__(self, boundaries: Sequence[int], values: Sequence[float], name: str = "PiecewiseConstant") -> None:
        kind = "PiecewiseConstantDecay"
        self.boundaries = [arguments.integer(f"{kind}: boundaries", step, least=0) for step in boundaries]
        self.values = [_positive(f"{kind}: values", value) for value in values]
        self.name = name
        if len(self.values) != len(self.boundaries) + 1:
            counts = f"{len(self.values)} values for {len(self.boundaries)} boundaries"
            raise ArgumentError(f"{kind}: got {counts}; expected one value more")
        if sorted(set(self.boundaries)) != self.boundaries:
            raise ArgumentError(f"{kind}: boundaries={self.boundaries}: expected rising numbers")

    def __call__(self, step: int) -> float:
        return self.values[bisect.bisect_left(self.boundaries, step)]


class OneCycle(LearningRateSchedule):
    """Half a cosine up to `max_learning_rate`, then half a cosine down to almost nothing.

    Smith and Topin, "Super-convergence", 2019, with the cosines and the defaults of PyTorch's ``OneCycleLR``: from
    ``max / div_factor`` to the maximum, reached at step ``warmup_fraction * total_steps - 1``, and down to
    ``max / div_factor / final_div_factor`` at the last step, ``total_steps - 1``.

    Args:
        max_learning_rate: positive.
        total_steps: steps of the whole training, at least 2.
        warmup_fraction: the share of the rise, more than 0 and less than 1.
        div_factor, final_div_factor: positive.
        name: only for display.

    Raises:
        ArgumentError: an argument is not what it should be.
    """

    def __init__(
        self,
        max_learning_rate: float,
        total_steps: int,
        warmup_fraction: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        name: str = "OneCycle",
    ) -> None:
        self.max_learning_rate = _positive("OneCycle: max_learning_rate", max_learning_rate)
        self.total_steps = arguments.integer("OneCycle: total_steps", total_steps, least=2)
        self.warmup_fraction = _positive("OneCycle: warmup_fraction", warmup_fraction)
        if self.warmup_fraction >= 1.0:
            raise ArgumentError(f"OneCycle: warmup_fraction={warmup_fraction!r}: expected a number below 1")
        self.div_factor = _positive("OneCycle: div_factor", div_factor)
        self.final_div_factor = _positive("OneCycle: final_div_factor", final_div_factor)
        self.name = name

    def __call__(self, step: int) -> float:
        first, top = self.max_learning_rate / self.div_factor, self.max_learning_rate
        peak, end = self.warmup_fraction * self.total_steps - 1.0, self.total_steps - 1.0
        if step < peak:
            return _cosine(first, top, step / peak)
        return _cosine(top, first / self.final_div_factor, min((step - peak) / (end - peak), 1.0))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2.0 * (1.0 + math.cos(math.pi * share))


def _positive(name: str, value: Any) -> float:
    return arguments.real(name, value, above=0.0)


SCHEDULES: dict[str, type[LearningRateSchedule]] = {
    cls.__name__: cls for cls in (ExponentialDecay, CosineDecay, PiecewiseConstantDecay, OneCycle)
}


def get(schedule: LearningRateSchedule | dict[str, Any]) -> LearningRateSchedule:
    """The schedule described so (`serialize`), or itself.

    Raises:
        ArgumentError: there is none of that name.
    """
    if isinstance(schedule, LearningRateSchedule):
        return schedule
    if schedule.get("class") in SCHEDULES:
        return SCHEDULES[schedule["class"]](**schedule.get("config", {}))
    raise ArgumentError(f"learning_rate={schedule!r} is no schedule; there are: {arguments.listing(SCHEDULES)}")


def serialize(schedule: LearningRateSchedule) -> dict[str, Any]:
    """A description of `schedule` fit for JSON, which `get` reads."""
    return {"class": type(schedule).__name__, "config": schedule.get_config()}


__getattr__ = absent.getter(__name__)
