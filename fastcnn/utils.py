"""Small tools under Keras' names (`to_categorical`, `set_random_seed`), and the number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcnn import absent, arguments
from fastcnn.errors import ArgumentError

_default_seeds: np.random.SeedSequence | None = None


def to_categorical(x: ArrayLike, num_classes: int | None = None) -> NDArray[np.float32]:
    """One-hot rows for whole-number labels.

    Args:
        x: labels, any shape; a last axis of size 1 is dropped.
        num_classes: the width of a row; by default the greatest label + 1.

    Returns:
        Float32, the shape of `x` with an axis of `num_classes` added at the end.

    Raises:
        ArgumentError: a label is not a whole number from 0 to `num_classes` - 1.
    """
    labels = whole_labels("x", np.asarray(x))
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    if num_classes is None:
        classes = int(labels.max()) + 1 if labels.size else 0
    else:
        classes = arguments.integer("num_classes", num_classes)
    check_range("x", labels, classes)
    rows = np.zeros((labels.size, classes), np.float32)
    rows[np.arange(labels.size), labels.ravel()] = 1.0
    return rows.reshape(*labels.shape, classes)


def whole_labels(name: str, labels: NDArray[Any]) -> NDArray[np.int64]:
    """`labels` as int64, whatever number type they came in.

    Raises:
        ArgumentError: they are no numbers, or not whole, or NaN.
    """
    if labels.dtype.kind in "iub":
        return np.require(labels, np.int64, ["C", "W"])
    if labels.dtype.kind != "f":
        raise ArgumentError(f"{name} has dtype {labels.dtype}; expected whole-number labels")
    whole = np.isfinite(labels)
    whole &= np.where(whole, labels, 0.5) % 1 == 0
    if not whole.all():
        raise ArgumentError(f"{name} holds {labels[~whole].flat[0]}; expected whole-number labels")
    return np.ascontiguousarray(labels, np.int64)


def check_range(name: str, labels: NDArray[np.int64], classes: int) -> None:
    """Raise an ArgumentError unless every label is in 0 .. classes - 1."""
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        wrong = labels[(labels < 0) | (labels >= classes)].flat[0]
        expected = f"expected 0 to {classes - 1}, for {classes} classes"
        raise ArgumentError(f"{name} holds the label {wrong}; {expected}")


def set_random_seed(seed: int) -> None:
    """Choose the seeds of all models made from now on without their own: the same seed, the same models."""
    global _default_seeds
    _default_seeds = np.random.SeedSequence(arguments.integer("seed", seed, least=0))


def new_seed() -> int:
    """A seed for one model: the next after `set_random_seed`, or else one that nobody can foresee."""
    source = np.random.SeedSequence() if _default_seeds is None else _default_seeds.spawn(1)[0]
    return int(source.generate_state(1)[0])


def set_threads(threads: int) -> None:
    """Run the numba backend's parallel kernels on this many threads.

    Raises:
        ArgumentError: fewer than one, or more than Numba started with (the number of processors).
    """
    import numba

    limit = int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    if arguments.integer("threads", threads) > limit:
        raise ArgumentError(f"threads={threads}: expected at most {limit} on this machine")
    numba.set_num_threads(threads)


def get_threads() -> int:
    """How many threads the numba backend's parallel kernels run on."""
    import numba

    return int(numba.get_num_threads())


__getattr__ = absent.getter(__name__)
