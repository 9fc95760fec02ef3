"""Callbacks that write files: the model after an epoch, the figures of every epoch."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any, TextIO

from fastcnn import arguments, files
from fastcnn.callbacks.base import Callback, Logs
from fastcnn.callbacks.monitor import Monitor
from fastcnn.errors import ArgumentError


class ModelCheckpoint(Callback):
    """Saves the model after every epoch, or after every epoch that is the best so far.

    Args:
        filepath: where to; ``{epoch:02d}`` (from 1) and figures such as ``{val_loss:.3f}`` are filled in.
        monitor: the figure that says which epoch is the best.
        verbose: 1 prints a line for every file.
        save_best_only: whether only the best is written.
        save_weights_only: makes no difference: the file holds the architecture beside the weights.
        mode: ``"min"``, ``"max"`` or ``"auto"``.
        save_freq: only ``"epoch"``.

    Raises:
        ArgumentError: an argument is not available.
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str = "epoch",
    ) -> None:
        self.filepath = os.fspath(filepath)
        self.monitor = Monitor("ModelCheckpoint", monitor, mode)
        self.verbose = verbose
        self.save_best_only = arguments.flag("ModelCheckpoint: save_best_only", save_best_only)
        self.save_weights_only = arguments.flag("ModelCheckpoint: save_weights_only", save_weights_only)
        if save_freq != "epoch":
            raise arguments.not_yet("ModelCheckpoint", "save_freq", save_freq, "'epoch'")
        self.best = self.monitor.worst

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        logs = logs or {}
        if self.save_best_only:
            figure = self.monitor.read(logs)
            if figure is None or not self.monitor.better(figure, self.best):
                return
            self.best = figure
        try:
            path = self.filepath.format(epoch=epoch + 1, **logs)
        except (KeyError, IndexError, ValueError) as problem:
            known = ", ".join(["epoch", *logs])
            raise ArgumentError(f"filepath={self.filepath!r}: can't fill in {problem}; there are: {known}") from None
        self.model.save(path, include_optimizer=not self.save_weights_only)
        if self.verbose:
            print(f"Epoch {epoch + 1}: saved the model to {path}")


class CSVLogger(Callback):
    """Writes a line an epoch: its number from 0, then its figures in the order of their names.

    Args:
        filename: where to.
        separator: what stands between two columns.
        append: whether lines are added to a file that is there; else it is replaced.

    Raises:
        ArgumentError: at the beginning of training, the file can't be written.
    """

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False) -> None:
        self.filename = Path(filename)
        self.separator = separator
        self.append = arguments.flag("CSVLogger: append", append)
        self._file: TextIO | None = None
        self._writer: Any = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        files.check_writable("CSVLogger: filename", self.filename)
        self._has_header = self.append and self.filename.exists() and self.filename.stat().st_size > 0
        self._file = open(self.filename, "a" if self.append else "w", newline="")  # noqa: SIM115
        self._writer = None

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        assert self._file is not None
        logs = logs or {}
        if self._writer is None:
            columns = ["epoch", *sorted(logs)]
            self._writer = csv.DictWriter(
                self._file, columns, restval="NA", extrasaction="ignore", delimiter=self.separator
            )
            if not self._has_header:
                self._writer.writeheader()
        self._writer.writerow({"epoch": epoch, **logs})
        self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
