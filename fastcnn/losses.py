"""Losses under Keras' names. A loss says what labels it takes; `fastcnn.stages` computes it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcnn import absent, arguments, utils
from fastcnn.errors import ArgumentError

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "axis": (-1,),
    "reduction": (None, "sum_over_batch_size", "auto"),
    "ignore_class": (None,),
    "dtype": (None, "float32"),
}
Shape = tuple[int, ...]


class Loss:
    """The base of all losses: a number a sample, whose mean over the batch is minimised.

    Args:
        name: only for display.
    """

    default_name = "loss"
    #: Whether the model ends without softmax, which the loss then applies.
    from_logits = False

    def __init__(self, *, name: str | None = None, **unknown: Any) -> None:
        arguments.refuse(type(self).__name__, unknown, type(self).__init__, _NEUTRAL)
        self.name = self.default_name if name is None else name

    def targets(self, y: ArrayLike, samples: int, output_shape: Shape) -> NDArray[Any]:
        """What the stages compute with: class numbers, int64 (samples,), or numbers, float64 (samples, ...).

        Args:
            y: what the caller passed.
            samples: how many images there are.
            output_shape: that of one sample's output.

        Raises:
            ArgumentError: `y` has another length or form than this loss takes, or a label is out of range.
        """
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, fit for JSON."""
        return {"name": self.name}


class _Crossentropy(Loss):
    """What both cross-entropies have: `from_logits`."""

    def __init__(self, from_logits: bool = False, *, name: str | None = None, **unknown: Any) -> None:
        super().__init__(name=name, **unknown)
        self.from_logits = arguments.flag(f"{type(self).__name__}: from_logits", from_logits)

    def get_config(self) -> dict[str, Any]:
        return {"from_logits": self.from_logits, **super().get_config()}


class CategoricalCrossentropy(_Crossentropy):
    """Minus the sum of label times natural log of probability; labels are rows (samples, classes).

    Rows are one-hot, or shares of the classes ("soft labels"), at least 0, usually of sum 1.

    Args:
        from_logits: whether the model ends without softmax.
        label_smoothing: s from 0 to 1: labels become ``y * (1 - s) + s / classes`` (Szegedy et al., 2016, section 7).
        name: only for display.
    """

    default_name = "categorical_crossentropy"

    def __init__(
        self, from_logits: bool = False, label_smoothing: float = 0.0, *, name: str | None = None, **unknown: Any
    ) -> None:
        super().__init__(from_logits, name=name, **unknown)
        self.label_smoothing = arguments.real("CategoricalCrossentropy: label_smoothing", label_smoothing, least=0.0)
        if self.label_smoothing > 1.0:
            raise ArgumentError(
                f"CategoricalCrossentropy: label_smoothing={label_smoothing!r}: expected a number from 0 to 1"
            )

    def targets(self, y: ArrayLike, samples: int, output_shape: Shape) -> NDArray[Any]:
        rows, classes = _label_array(y, samples), output_shape[0]
        if rows.ndim != 2 or rows.shape[1] != classes:
            use = "use fastcnn.utils.to_categorical(y) or loss='sparse_categorical_crossentropy'"
            hint = f"; {use}" if rows.ndim == 1 or rows.shape[1:] == (1,) else ""
            expected = f"loss {self.name!r} expects one row of classes an image ({samples}, {classes})"
            raise ArgumentError(f"y has shape {rows.shape}; {expected}{hint}")
        good = (np.isfinite(rows) & (rows >= 0)).all(axis=1)
        if not good.all():
            wrong = int(np.flatnonzero(~good)[0])
            raise ArgumentError(f"y[{wrong}] holds a negative or not finite number; expected shares of the classes")
        labels = rows.argmax(axis=1)
        one_hot = (rows[np.arange(len(rows)), labels] == 1).all() and np.count_nonzero(rows) == len(rows)
        if one_hot and self.label_smoothing == 0.0:
            return np.ascontiguousarray(labels, np.int64)
        smoothing = self.label_smoothing
        targets: NDArray[Any] = rows.astype(np.float64) * (1.0 - smoothing) + smoothing / classes
        return targets

    def get_config(self) -> dict[str, Any]:
        return {"label_smoothing": self.label_smoothing, **super().get_config()}


class SparseCategoricalCrossentropy(_Crossentropy):
    """Minus the natural log of the true class' probability; labels are whole numbers (samples,)."""

    default_name = "sparse_categorical_crossentropy"

    def targets(self, y: ArrayLike, samples: int, output_shape: Shape) -> NDArray[Any]:
        array = _label_array(y, samples)
        if array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        if array.ndim != 1:
            use = "use y.argmax(axis=1) or loss='categorical_crossentropy'"
            expected = f"loss {self.name!r} expects labels ({samples},)"
            raise ArgumentError(f"y has shape {array.shape}; {expected}; {use}")
        labels = utils.whole_labels("y", array)
        utils.check_range("y", labels, output_shape[0])
        return labels


class MeanSquaredError(Loss):
    """The mean of ``(output - y) ** 2`` over all of a sample's outputs; `y` has the outputs' shape."""

    default_name = "mean_squared_error"

    def targets(self, y: ArrayLike, samples: int, output_shape: Shape) -> NDArray[Any]:
        array = _label_array(y, samples)
        if array.ndim == 1 and output_shape == (1,):
            array = array[:, None]
        if array.shape[1:] != output_shape:
            expected = f"loss {self.name!r} expects the shape of the model's output, {(samples, *output_shape)}"
            raise ArgumentError(f"y has shape {array.shape}; {expected}")
        if not np.isfinite(array).all():
            raise ArgumentError("y holds nan or infinite numbers; expected finite ones")
        return np.ascontiguousarray(array, np.float64)


def _label_array(y: ArrayLike, samples: int) -> NDArray[Any]:
    array = np.asarray(y)
    if array.dtype.kind not in "iubf":
        raise ArgumentError(f"y has dtype {array.dtype}; expected an array of labels")
    if array.ndim == 0 or len(array) != samples:
        count = "a single number" if array.ndim == 0 else f"{len(array)} labels"
        raise ArgumentError(f"y holds {count} for {samples} images in x; expected one label an image")
    return array


LOSSES: dict[str, type[Loss]] = {
    cls.default_name: cls for cls in (CategoricalCrossentropy, SparseCategoricalCrossentropy, MeanSquaredError)
}
#: Names that Keras takes for the same.
ALIASES = {"mse": "mean_squared_error", "MSE": "mean_squared_error"}
_CLASSES = {cls.__name__: cls for cls in LOSSES.values()}
#: What Keras has as functions, for ``compile(loss=losses.categorical_crossentropy)``.
categorical_crossentropy, sparse_categorical_crossentropy, mean_squared_error = LOSSES


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
        cls = LOSSES.get(ALIASES.get(loss, loss)) or _CLASSES.get(loss)
        if cls is not None:
            return cls()
    instead = absent.advice(__name__, loss) if isinstance(loss, str) else None
    raise ArgumentError(f"loss={loss!r} is unknown; {instead or f'there are: {arguments.listing(LOSSES)}'}")


def serialize(loss: Loss) -> dict[str, Any]:
    """A description of `loss` fit for JSON, which `get` reads."""
    return {"class": type(loss).__name__, "config": loss.get_config()}


__getattr__ = absent.getter(__name__)
