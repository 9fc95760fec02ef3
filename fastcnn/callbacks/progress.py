"""The progress bar: what Keras prints while it trains."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from fastcnn.callbacks.base import Callback, Logs
from fastcnn.errors import ArgumentError


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
