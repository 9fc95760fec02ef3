"""Losses under Keras' names. A loss says what labels it takes; `fastcnn.stages` computes it with softmax."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcnn import arguments, utils
from fastcnn.errors import ArgumentError

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "label_smoothing": (0, 0.0),
    "axis": (-1,),
    "reduction": (None, "sum_over_batch_size", "auto"),
    "ignore_class": (None,),
}


class Loss:
    """The base of all losses.

    Args:
        from_logits: whether the model ends without softmax.
        name: only for display.
    """

    default_name = "loss"

    def __init__(self, from_logits: bool = False, *, name: str | None = None, **unknown: Any) -> None:
        kind = type(self).__name__
        arguments.refuse(kind, unknown, type(self).__init__, _NEUTRAL)
        self.from_logits = arguments.flag(f"{kind}: from_logits", from_logits)
        self.name = self.default_name if name is None else name

    def labels(self, y: ArrayLike, samples: int, classes: int) -> NDArray[np.int64]:
        """The class of every sample, (samples,), from what the caller passed as `y`.

        Raises:
            ArgumentError: `y` has another length or form than this loss takes, or a label is out of range.
        """
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, fit for JSON."""
        return {"from_logits": self.from_logits, "name": self.name}


class CategoricalCrossentropy(Loss):
    """Minus the natural log of the true class' probability; labels are one-hot rows (samples, classes)."""

    default_name = "categorical_crossentropy"

    def labels(self, y: ArrayLike, samples: int, classes: int) -> NDArray[np.int64]:
        rows = _label_array(y, samples)
        if rows.ndim != 2 or rows.shape[1] != classes:
            use = "use fastcnn.utils.to_categorical(y) or loss='sparse_categorical_crossentropy'"
            hint = f"; {use}" if rows.ndim == 1 or rows.shape[1:] == (1,) else ""
            expected = f"loss {self.name!r} expects one-hot rows ({samples}, {classes})"
            raise ArgumentError(f"y has shape {rows.shape}; {expected}{hint}")
        labels = rows.argmax(axis=1)
        ones = rows[np.arange(len(rows)), labels] == 1
        if not ones.all() or np.count_nonzero(rows) != len(rows):
            wrong = int(np.flatnonzero(~ones | (np.count_nonzero(rows, axis=1) != 1))[0])
            raise ArgumentError(f"y[{wrong}] is not one-hot; expected a single 1 among zeros in every row")
        return np.ascontiguousarray(labels, np.int64)


class SparseCategoricalCrossentropy(Loss):
    """Minus the natural log of the true class' probability; labels are whole numbers (samples,)."""

    default_name = "sparse_categorical_crossentropy"

    def labels(self, y: ArrayLike, samples: int, classes: int) -> NDArray[np.int64]:
        array = _label_array(y, samples)
        if array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        if array.ndim != 1:
            use = "use y.argmax(axis=1) or loss='categorical_crossentropy'"
            expected = f"loss {self.name!r} expects labels ({samples},)"
            raise ArgumentError(f"y has shape {array.shape}; {expected}; {use}")
        labels = utils.whole_labels("y", array)
        utils.check_range("y", labels, classes)
        return labels


def _label_array(y: ArrayLike, samples: int) -> NDArray[Any]:
    array = np.asarray(y)
    if array.dtype.kind not in "iubf":
        raise ArgumentError(f"y has dtype {array.dtype}; expected an array of labels")
    if array.ndim == 0 or len(array) != samples:
        count = "a single number" if array.ndim == 0 else f"{len(array)} labels"
        raise ArgumentError(f"y holds {count} for {samples} images in x; expected one label an image")
    return array


LOSSES: dict[str, type[Loss]] = {
    cls.default_name: cls for cls in (CategoricalCrossentropy, SparseCategoricalCrossentropy)
}
_CLASSES = {cls.__name__: cls for cls in LOSSES.values()}


def get(loss: str | Loss | dict[str, Any]) -> Loss:
    """The loss called so, described so (`serialize`), or itself.

    Raises:
        ArgumentError: there is none of that name.
    """
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, dict) and loss.get("class") in _CLASSES:
        return _CLASSES[loss["class"]](**loss.get("config", {}))
    if isinstance(loss, str):
        cls = LOSSES.get(loss) or _CLASSES.get(loss)
        if cls is not None:
            return cls()
    raise ArgumentError(f"loss={loss!r} is unknown; there are: {arguments.listing(LOSSES)}")


def serialize(loss: Loss) -> dict[str, Any]:
    """A description of `loss` fit for JSON, which `get` reads."""
    return {"class": type(loss).__name__, "config": loss.get_config()}
