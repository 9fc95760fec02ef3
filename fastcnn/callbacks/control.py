"""Callbacks that steer training: when it stops, how long its steps are; and one made of functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from fastcnn import arguments
from fastcnn.callbacks.base import Callback, Logs
from fastcnn.callbacks.monitor import Monitor
from fastcnn.errors import ArgumentError


class EarlyStopping(Callback):
    """Stops training when a figure has not improved for `patience` epochs.

    Args:
        monitor: the figure's name.
        min_delta: what a change has to exceed to count.
        patience: how many epochs without improvement are allowed.
        verbose: 1 prints a line when it stops training.
        mode: ``"min"``, ``"max"`` or ``"auto"``.
        baseline: what the figure has to improve on for its epochs to count as good; None for nothing.
        restore_best_weights: whether the model ends with the weights of its best epoch.
        start_from_epoch: how many first epochs are not looked at.

    Attributes:
        best: the best figure so far.
        best_epoch: its epoch, from 0.
        stopped_epoch: the epoch after which training was stopped, or 0.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        self.monitor = Monitor("EarlyStopping", monitor, mode, min_delta)
        self.patience = arguments.integer("EarlyStopping: patience", patience, least=0)
        self.verbose = verbose
        self.baseline = None if baseline is None else arguments.real("EarlyStopping: baseline", baseline)
        self.restore_best_weights = arguments.flag("EarlyStopping: restore_best_weights", restore_best_weights)
        self.start_from_epoch = arguments.integer("EarlyStopping: start_from_epoch", start_from_epoch, least=0)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.best = self.monitor.worst
        self.best_epoch = self.stopped_epoch = self._wait = 0
        self._best_weights: list[Any] | None = None

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        figure = self.monitor.read(logs or {})
        if figure is None or epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self._best_weights is None:
            self._best_weights, self.best_epoch = self.model.get_weights(), epoch
        self._wait += 1
        if self.monitor.better(figure, self.best):
            self.best, self.best_epoch = figure, epoch
            if self.restore_best_weights:
                self._best_weights = self.model.get_weights()
            if self.baseline is None or self.monitor.better(figure, self.baseline):
                self._wait = 0
                return
        if self._wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.stopped_epoch and self.verbose:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self._best_weights is not None:
            self.model.set_weights(self._best_weights)


class ReduceLROnPlateau(Callback):
    """Multiplies the learning rate with `factor` when a figure has not improved for `patience` epochs.

    Args:
        monitor: the figure's name.
        factor: more than 0 and less than 1.
        patience: how many epochs without improvement are allowed.
        verbose: 1 prints a line for every reduction.
        mode: ``"min"``, ``"max"`` or ``"auto"``.
        min_delta: what a change has to exceed to count.
        cooldown: how many epochs after a reduction are not counted.
        min_lr: the learning rate is not reduced below this.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        self.monitor = Monitor("ReduceLROnPlateau", monitor, mode, min_delta)
        self.factor = arguments.real("ReduceLROnPlateau: factor", factor, above=0.0)
        if self.factor >= 1.0:
            raise ArgumentError(f"ReduceLROnPlateau: factor={factor!r}: expected a number below 1")
        self.patience = arguments.integer("ReduceLROnPlateau: patience", patience, least=0)
        self.verbose = verbose
        self.cooldown = arguments.integer("ReduceLROnPlateau: cooldown", cooldown, least=0)
        self.min_lr = arguments.real("ReduceLROnPlateau: min_lr", min_lr, least=0.0)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.best = self.monitor.worst
        self._wait = self._cooling = 0

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        logs = {} if logs is None else logs
        optimizer = self.model.optimizer
        logs["learning_rate"] = optimizer.learning_rate
        figure = self.monitor.read(logs)
        if figure is None:
            return
        if self._cooling > 0:
            self._cooling -= 1
            self._wait = 0
        if self.monitor.better(figure, self.best):
            self.best = figure
            self._wait = 0
        elif self._cooling == 0:
            self._wait += 1
            if self._wait >= self.patience and optimizer.learning_rate > self.min_lr:
                optimizer.learning_rate = max(optimizer.learning_rate * self.factor, self.min_lr)
                self._cooling, self._wait = self.cooldown, 0
                if self.verbose:
                    print(f"Epoch {epoch + 1}: reducing the learning rate to {optimizer.learning_rate:g}")


class LearningRateScheduler(Callback):
    """Sets the learning rate at the beginning of every epoch.

    Args:
        schedule: ``schedule(epoch, learning_rate)``, or ``schedule(epoch)``, returns the new one; epochs from 0.
        verbose: 1 prints a line an epoch.

    Raises:
        ArgumentError: `schedule` can't be called.
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        if not callable(schedule):
            raise ArgumentError(f"LearningRateScheduler: schedule={schedule!r}: expected a function of the epoch")
        self.schedule = schedule
        self.verbose = verbose
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        taken = [p for p in inspect.signature(schedule).parameters.values() if p.kind in positional]
        self._takes_rate = len(taken) > 1

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        optimizer = self.model.optimizer
        rate = self.schedule(epoch, optimizer.learning_rate) if self._takes_rate else self.schedule(epoch)
        optimizer.learning_rate = rate
        if self.verbose:
            print(f"Epoch {epoch + 1}: the learning rate is {optimizer.learning_rate:g}")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if logs is not None:
            logs["learning_rate"] = self.model.optimizer.learning_rate


class SwapEMAWeights(Callback):
    """Validates with the averages of the weights that an optimizer with ``use_ema=True`` keeps, instead of the weights.

    Args:
        swap_on_epoch: whether callbacks behind this one, as `ModelCheckpoint`, find the averages in the model when an
            epoch ends.
    """

    def __init__(self, swap_on_epoch: bool = False) -> None:
        self.swap_on_epoch = arguments.flag("SwapEMAWeights: swap_on_epoch", swap_on_epoch)
        self._weights: list[Any] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        if not self.model.optimizer.use_ema:
            kind = type(self.model.optimizer).__name__
            raise ArgumentError(f"SwapEMAWeights: the optimizer keeps no averages; make it {kind}(..., use_ema=True)")

    def on_test_begin(self, logs: Logs | None = None) -> None:
        self._take_averages()

    def on_test_end(self, logs: Logs | None = None) -> None:
        self._give_back()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.swap_on_epoch:
            self._take_averages()

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._give_back()

    def on_train_end(self, logs: Logs | None = None) -> None:
        self._weights = None  # the averages are the weights now

    def close(self) -> None:
        self._give_back()

    def _take_averages(self) -> None:
        self._weights = self.model.get_weights()
        self.model.optimizer.finalize_variable_values()

    def _give_back(self) -> None:
        if self._weights is not None:
            self.model.set_weights(self._weights)
            self._weights = None


class LambdaCallback(Callback):
    """A callback made of functions, each taking what the hook of its name takes.

    Args:
        hooks: ``on_epoch_begin(epoch, logs)``, ``on_epoch_end(epoch, logs)``, ``on_train_begin(logs)``,
            ``on_train_end(logs)``, ``on_train_batch_begin(batch, logs)``, ``on_train_batch_end(batch, logs)``;
            None for nothing.

    Raises:
        ArgumentError: there is no such hook, or one is no function.
    """

    HOOKS = (
        "on_epoch_begin",
        "on_epoch_end",
        "on_train_begin",
        "on_train_end",
        "on_train_batch_begin",
        "on_train_batch_end",
    )

    def __init__(self, **hooks: Callable[..., Any] | None) -> None:
        for name, function in hooks.items():
            arguments.choice("LambdaCallback: hook", name, self.HOOKS)
            if function is None:
                continue
            if not callable(function):
                raise ArgumentError(f"LambdaCallback: {name}={function!r}: expected a function")
            setattr(self, name, function)
