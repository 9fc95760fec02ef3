"""The epoch loop: it returns values, prints nothing, tells callbacks. How a step runs is the plan's."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcnn.callbacks import CallbackList
from fastcnn.errors import DivergedError
from fastcnn.optimizers import Optimizer
from fastcnn.stages import Plan

#: How long training stays away from Python, in seconds, if a batch is not longer than that.
CHUNK_SECONDS = 0.05


@dataclass(frozen=True)
class Samples:
    """What to train on or to evaluate.

    Attributes:
        images: (N, height, width, channels) or (N, inputs), as a plan prepared them.
        labels: what the loss made of the labels: classes (N,), or numbers (N, ...).
        weights: how much each sample's loss counts (N,); None is 1.
    """

    images: NDArray[Any]
    labels: NDArray[Any]
    weights: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass
class History:
    """What `fit` returns.

    Attributes:
        history: a list for each of ``loss``, ``accuracy``, ``val_loss``, ``val_accuracy``, and what callbacks added to
            the epoch's logs, an entry an epoch.
        epoch: the epochs' numbers, from 0.
        seconds: what training took, an entry an epoch, without compiling and without validation.
        test_seconds: what validation took, an entry an epoch.
        compile_seconds: what it took to load or compile the kernels, before the first epoch.
    """

    history: dict[str, list[float]] = field(default_factory=dict)
    epoch: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    test_seconds: list[float] = field(default_factory=list)
    compile_seconds: float = 0.0


@dataclass(frozen=True)
class Settings:
    """How long and in which steps to train.

    Attributes:
        batch_size: samples a step.
        epochs: the number of the last epoch, counted from 1.
        initial_epoch: how many epochs went before.
        shuffler: draws each epoch's order; None leaves the samples in theirs.
        accuracies: the names under which accuracy is reported, often one.
    """

    batch_size: int
    epochs: int
    initial_epoch: int
    shuffler: np.random.Generator | None
    accuracies: tuple[str, ...]


def fit(
    plan: Plan,
    optimizer: Optimizer,
    samples: Samples,
    validation: Samples | None,
    settings: Settings,
    callbacks: CallbackList,
) -> History:
    """Train for the epochs that `settings` ask for.

    Raises:
        DivergedError: a loss is not finite; the weights are those before that batch.
    """
    history = History()
    try:
        begun = time.perf_counter()
        plan.warm_up(samples.images, samples.labels, settings.batch_size, optimizer)
        history.compile_seconds = time.perf_counter() - begun
        callbacks.call("on_train_begin", {})
        logs: dict[str, float] = {}
        for epoch in range(settings.initial_epoch, settings.epochs):
            callbacks.call("on_epoch_begin", epoch, {})
            begun = time.perf_counter()
            logs = _epoch(plan, optimizer, samples, settings, callbacks, epoch)
            history.seconds.append(time.perf_counter() - begun)
            if validation is not None:
                begun = time.perf_counter()
                callbacks.call("on_test_begin", {})
                figures = evaluate(plan, validation, None, settings.accuracies)
                callbacks.call("on_test_end", figures)
                history.test_seconds.append(time.perf_counter() - begun)
                logs |= {f"val_{name}": value for name, value in figures.items()}
            callbacks.call("on_epoch_end", epoch, logs)
            history.epoch.append(epoch)
            for name, value in logs.items():
                history.history.setdefault(name, []).append(value)
            if callbacks.stopped:
                break
        optimizer.finalize_variable_values()
        callbacks.call("on_train_end", logs)
    finally:
        callbacks.call("close")
    return history


def one_step(plan: Plan, optimizer: Optimizer, samples: Samples, accuracies: tuple[str, ...]) -> dict[str, float]:
    """Take one step with all the samples as the batch; the figures are those before it.

    Raises:
        DivergedError: a loss is not finite; nothing was changed.
    """
    count = len(samples)
    order = np.arange(count)
    loss, right, done = plan.train(samples.images, samples.labels, order, count, optimizer, samples.weights)
    if done < count:
        raise _diverged(samples, order, 0, count, 0, optimizer.learning_rate)
    return _figures(loss, right, count, accuracies)


def evaluate(plan: Plan, samples: Samples, batch_size: int | None, accuracies: tuple[str, ...]) -> dict[str, float]:
    """The mean loss and, under each of the names in `accuracies`, the share of right answers."""
    sums = plan.evaluate(samples.images, samples.labels, batch_size, samples.weights)
    return _figures(*sums, len(samples), accuracies)


def _epoch(
    plan: Plan,
    optimizer: Optimizer,
    samples: Samples,
    settings: Settings,
    callbacks: CallbackList,
    epoch: int,
) -> dict[str, float]:
    """One pass over the samples, in chunks of whole batches, each of about `CHUNK_SECONDS`.

    Chunks are an even number of batches: the fused kernel takes single steps in pairs, and how the time falls must not
    decide how they pair, or the last bits would differ from run to run.
    """
    count, batch_size = len(samples), settings.batch_size
    order = np.arange(count) if settings.shuffler is None else settings.shuffler.permutation(count)
    every_batch = callbacks.every_batch
    loss_sum, correct, position, batches = 0.0, 0, 0, 1 if every_batch else 2
    logs: dict[str, float] = {}
    while position < count and not callbacks.stopped:
        if every_batch:
            callbacks.call("on_train_batch_begin", position // batch_size, {})
        chunk = order[position : position + batches * batch_size]
        begun = time.perf_counter()
        losses, right, done = plan.train(samples.images, samples.labels, chunk, batch_size, optimizer, samples.weights)
        elapsed = time.perf_counter() - begun
        if done < len(chunk):
            raise _diverged(samples, order, position + done, batch_size, epoch, optimizer.learning_rate)
        position += done
        loss_sum, correct = loss_sum + losses, correct + right
        logs = _figures(loss_sum, correct, position, settings.accuracies)
        if every_batch:
            callbacks.call("on_train_batch_end", (position - 1) // batch_size, logs)
        elif elapsed < CHUNK_SECONDS / 2:
            batches *= 2
        elif elapsed > CHUNK_SECONDS * 2:
            batches = max(2, batches // 2)
        callbacks.call("on_train_progress", position, logs)
    return logs


def _figures(loss_sum: float, correct: int, count: int, accuracies: tuple[str, ...]) -> dict[str, float]:
    return {"loss": loss_sum / count, **dict.fromkeys(accuracies, correct / count)}


def _diverged(
    samples: Samples, order: NDArray[np.int64], done: int, batch_size: int, epoch: int, learning_rate: float
) -> DivergedError:
    step = done // batch_size
    chosen = order[step * batch_size : (step + 1) * batch_size]
    where = f"at epoch {epoch + 1}, step {step + 1}"
    for sample in chosen:
        if not np.isfinite(samples.images[sample]).all():
            return DivergedError(f"x[{sample}] holds nan or infinite values ({where}); remove that sample")
    advice = f"try a learning rate lower than {learning_rate:g}"
    return DivergedError(f"training diverged: the loss is no longer finite {where}; {advice}")
