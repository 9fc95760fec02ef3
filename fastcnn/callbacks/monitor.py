"""One figure of the logs, watched for getting better."""

from __future__ import annotations

import math
import warnings

from fastcnn import arguments
from fastcnn.callbacks.base import Logs


class Monitor:
    """Which figure, which direction is better, and how much of it counts.

    Args:
        owner: whose it is, for messages: ``"EarlyStopping"``.
        name: a figure of the logs: ``"val_loss"``.
        mode: ``"min"``, ``"max"``, or ``"auto"``: ``"max"`` where the name ends in an accuracy's.
        min_delta: what a change has to exceed to count.

    Raises:
        ArgumentError: the mode is none of the three.
    """

    def __init__(self, owner: str, name: str, mode: str, min_delta: float = 0.0) -> None:
        self.owner = owner
        self.name = name
        arguments.choice(f"{owner}: mode", mode, ("auto", "min", "max"))
        rising = mode == "max" or (mode == "auto" and name.endswith(("acc", "accuracy")))
        self.worst = -math.inf if rising else math.inf
        self._sign = 1.0 if rising else -1.0
        self._min_delta = abs(arguments.real(f"{owner}: min_delta", min_delta))

    def read(self, logs: Logs) -> float | None:
        """The figure, or None with a warning where there is none of that name."""
        if self.name not in logs:
            there = ", ".join(logs)
            warnings.warn(f"{self.owner}: there is no figure {self.name!r}; there are: {there}", stacklevel=2)
            return None
        return logs[self.name]

    def better(self, figure: float, than: float) -> bool:
        """Whether `figure` improves on `than` by more than `min_delta`."""
        return self._sign * figure > self._sign * than + self._min_delta
