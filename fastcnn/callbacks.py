"""Callbacks: what is told of training while it runs, under Keras' names, and the progress bar."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from fastcnn.errors import ArgumentError

Logs = Mapping[str, float]


class Callback:
    """The base of all callbacks: override the hooks you need.

    Attributes:
        model: the model that is trained; ``self.model.stop_training = True`` ends training early.
        params: ``epochs``, ``steps`` (batches an epoch), ``samples``, ``batch_size``.
    """

    model: Any = None
    params: Mapping[str, int]

    def set_model(self, model: Any) -> None:
        self.model = model

    def set_params(self, params: Mapping[str, int]) -> None:
        self.params = params

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Called once, before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Called once, after the last epoch; not after an error."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Called before every epoch, counted from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Called after every epoch with its ``loss``, ``accuracy``, ``val_loss``, ``val_accuracy``."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before every batch. Overriding it makes training return to Python each batch: slower."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called after every batch with the running figures of the epoch. Overriding it costs the same."""

    def on_train_progress(self, done: int, logs: Logs | None = None) -> None:
        """Called some twenty times a second with the samples done in this epoch and its running figures."""

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Called before the validation after an epoch."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Called after the validation with its ``loss`` and ``accuracy``."""

    def close(self) -> None:
        """Called last, whether training ended well, with an error or with Ctrl-C."""


class CallbackList:
    """Calls a hook on every callback.

    Args:
        callbacks: instances of `Callback`.
        model, params: what the callbacks find in their attributes.

    Raises:
        ArgumentError: one of them is no callback.
    """

    def __init__(self, callbacks: Sequence[Callback], model: Any, params: Mapping[str, int]) -> None:
        for callback in callbacks:
            if not isinstance(callback, Callback):
                kind = "an instance of fastcnn.callbacks.Callback"
                raise ArgumentError(f"callbacks holds {callback!r}; expected {kind}")
            callback.set_params(params)
            callback.set_model(model)
        self._callbacks = list(callbacks)
        self._model = model

    @property
    def every_batch(self) -> bool:
        """Whether some callback wants to be called for every batch."""
        hooks = ("on_train_batch_begin", "on_train_batch_end")
        kinds = {type(callback) for callback in self._callbacks}
        return any(getattr(kind, hook) is not getattr(Callback, hook) for kind in kinds for hook in hooks)

    @property
    def stopped(self) -> bool:
        """Whether some callback asked for training to stop."""
        return bool(self._model.stop_training)

    def call(self, hook: str, *arguments: Any) -> None:
        """Call one hook of every callback, in order."""
        for callback in self._callbacks:
            getattr(callback, hook)(*arguments)


class ProgressBar(Callback):
    """Prints what Keras prints: a live bar an epoch (1) or a line an epoch (2).

    Args:
        verbose: 1, 2 or ``"auto"``, which is 1 in a terminal and else 2.
        console: where to print; by default the standard output.
    """

    def __init__(self, verbose: int | str = "auto", console: Console | None = None) -> None:
        self._console = console or Console()
        self._live = verbose_level(verbose, self._console) == 1
        self._bar: Progress | None = None
        self._begun = 0.0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._begun = time.perf_counter()
        self._console.print(f"Epoch {epoch + 1}/{self.params['epochs']}", highlight=False)
        if self._live:
            text = TextColumn("{task.fields[figures]}")
            steps = TextColumn("{task.completed:.0f}/{task.total:.0f}")
            self._bar = Progress(
                steps,
                BarColumn(20),
                TimeRemainingColumn(),
                text,
                console=self._console,
                transient=True,
                disable=not self._console.is_interactive,
            )
            self._task = self._bar.add_task("", total=self.params["steps"], figures="")
            self._bar.start()

    def on_train_progress(self, done: int, logs: Logs | None = None) -> None:
        if self._bar is not None:
            steps = -(-done // self.params["batch_size"])
            self._bar.update(self._task, completed=steps, figures=figures(logs or {}))

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.close()
        line = report(self.params["steps"], time.perf_counter() - self._begun, logs or {}, bar=self._live)
        self._console.print(line, highlight=False, soft_wrap=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def verbose_level(verbose: int | str, console: Console) -> int:
    """0, 1 or 2 for what the caller passed as `verbose`.

    Raises:
        ArgumentError: it is none of 0, 1, 2, ``"auto"``.
    """
    if verbose == "auto":
        return 1 if console.is_terminal or console.is_jupyter else 2
    if verbose not in (0, 1, 2):
        raise ArgumentError(f"verbose={verbose!r}: expected 0, 1, 2 or 'auto'")
    return int(verbose)


def figures(logs: Logs) -> str:
    """``loss: 0.1234 - accuracy: 0.9876``."""
    return " - ".join(f"{name}: {value:.4f}" for name, value in logs.items())


def report(steps: int, seconds: float, logs: Logs, *, bar: bool) -> str:
    """The line that stays: steps, a full bar or none, seconds, time a step, figures."""
    step = seconds / steps
    unit, scale = ("s", 1.0) if step >= 1 else ("ms", 1e3) if step >= 1e-3 else ("us", 1e6)
    head = f"{steps}/{steps} " + ("━" * 20 + " " if bar else "- ")
    return f"{head}{seconds:.1f}s {step * scale:.3g}{unit}/step - {figures(logs)}"
