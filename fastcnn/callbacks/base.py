"""The base of all callbacks, and how they are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastcnn.errors import ArgumentError

Logs = dict[str, float]


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
        """Called after every epoch with its ``loss``, ``accuracy``, ``val_loss``, ``val_accuracy``.

        What is added to `logs` goes into the history.
        """

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
        return any(
            hook in vars(callback) or getattr(type(callback), hook) is not getattr(Callback, hook)
            for callback in self._callbacks
            for hook in hooks
        )

    @property
    def stopped(self) -> bool:
        """Whether some callback asked for training to stop."""
        return bool(self._model.stop_training)

    def call(self, hook: str, *arguments: Any) -> None:
        """Call one hook of every callback, in order."""
        for callback in self._callbacks:
            getattr(callback, hook)(*arguments)
