"""What all layers have: a name, weights, shapes, a configuration. How they run is in `fastcnn.stages`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastcnn import arguments
from fastcnn.errors import ArgumentError
from fastcnn.initializers import Initializer

Array = NDArray[Any]
Shape = tuple[int, ...]
Self = TypeVar("Self", bound="Layer")

#: Keras' arguments that we don't have (yet), with the values that ask for nothing.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "data_format": (None, "channels_last"),
    "dilation_rate": (1, (1, 1), [1, 1]),
    "groups": (1,),
    "dtype": (None, "float32"),
    "kernel_regularizer": (None,),
    "bias_regularizer": (None,),
    "activity_regularizer": (None,),
    "kernel_constraint": (None,),
    "bias_constraint": (None,),
}


@dataclass(frozen=True)
class WeightSpec:
    """The shape of one of a layer's weights and what it starts from."""

    shape: Shape
    initializer: Initializer
    #: False for what training keeps up to date in another way than by gradients.
    trainable: bool = True


class Parameter:
    """One array of weights. `version` grows with every change, so that copies of it elsewhere can tell."""

    def __init__(self, name: str, value: Array, trainable: bool = True) -> None:
        self.name = name
        self.value = value
        self.trainable = trainable
        self.version = 0

    def assign(self, value: ArrayLike) -> None:
        """Overwrite the weights with `value`, of the same shape.

        Raises:
            ArgumentError: the shape differs, or `value` holds no real numbers.
        """
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            raise ArgumentError(f"{self.name} has dtype {array.dtype}; expected real numbers")
        if array.shape != self.value.shape:
            raise ArgumentError(f"{self.name} has shape {array.shape}; expected {self.value.shape}")
        self.value[...] = array
        self.changed()

    def changed(self) -> None:
        """To be called by whoever wrote into `value`."""
        self.version += 1


class Layer:
    """A declaration: configuration, weights and shapes. Shapes never include the batch.

    Args:
        name: unique in a model; by default the model numbers its layers: ``conv2d``, ``conv2d_1``, ...
        trainable: False keeps the weights as they are in training.
        input_shape: the shape of one sample, on a model's first layer: ``(28, 28, 1)``.
    """

    def __init__(
        self, *, name: str | None = None, trainable: bool = True, input_shape: Sequence[int] | None = None
    ) -> None:
        kind = type(self).__name__
        if name is not None and (not isinstance(name, str) or not name):
            raise ArgumentError(f"{kind}: name={name!r}: expected a string")
        self.name = name
        self.trainable = arguments.flag(f"{kind}: trainable", trainable)
        self.declared_input_shape: Shape | None = None
        if input_shape is not None:
            self.declared_input_shape = arguments.shape(f"{kind}: input_shape", input_shape)
        self.input_shape: Shape | None = None
        self.parameters: dict[str, Parameter] = {}

    def __call__(self, *inputs: object) -> NoReturn:
        """Keras' functional style, ``layer(x)``, isn't available.

        Raises:
            ArgumentError: always.
        """
        raise ArgumentError(f"{self.label}: layers aren't called here; give them to Sequential, in order")

    @property
    def label(self) -> str:
        """What messages call this layer: ``conv2d (Conv2D)``."""
        kind = type(self).__name__
        return kind if self.name is None else f"{self.name} ({kind})"

    @property
    def built(self) -> bool:
        """Whether the input's shape is known and the weights exist."""
        return self.input_shape is not None

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The shape of one output sample.

        Raises:
            ArgumentError: the layer can't take such an input.
        """
        return input_shape

    def weight_specs(self, input_shape: Shape) -> dict[str, WeightSpec]:
        """The weights that the layer has for such an input, by name, in the order of `get_weights`."""
        return {}

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: DTypeLike) -> None:
        """Fix the input's shape and draw the weights. A layer that is built already keeps its weights.

        Raises:
            ArgumentError: the input doesn't fit, or the layer is built already for another one.
        """
        if not self.built:
            self.compute_output_shape(input_shape)
            specs = self.weight_specs(input_shape)
            self.restore(input_shape, {n: s.initializer(s.shape, rng) for n, s in specs.items()}, dtype)
        elif input_shape != self.input_shape:
            raise ArgumentError(f"{self.label}: built for input {self.input_shape}; it now gets {input_shape}")
        elif any(p.value.dtype != dtype for p in self.parameters.values()):
            raise ArgumentError(f"{self.label}: its weights are not {np.dtype(dtype)}; make a new layer")

    def restore(self, input_shape: Shape, weights: dict[str, Array], dtype: DTypeLike) -> None:
        """Build with these weights, by name, instead of drawn ones."""
        self.input_shape = input_shape
        specs = self.weight_specs(input_shape)
        self.parameters = {
            name: Parameter(name, np.array(value, dtype, order="C"), specs[name].trainable)
            for name, value in weights.items()
        }

    @property
    def output_shape(self) -> Shape:
        """The shape of one output sample, once built."""
        if self.input_shape is None:
            raise ArgumentError(f"{self.label}: not built yet, its shapes are unknown")
        return self.compute_output_shape(self.input_shape)

    @property
    def weights(self) -> list[Array]:
        """The weights themselves, for reading only; change them with `set_weights`."""
        views = [p.value.view() for p in self.parameters.values()]
        for view in views:
            view.flags.writeable = False
        return views

    def get_weights(self) -> list[Array]:
        """Copies of the weights: the kernel, then the bias."""
        return [p.value.copy() for p in self.parameters.values()]

    def set_weights(self, weights: Sequence[ArrayLike]) -> None:
        """Overwrite the weights with arrays as `get_weights` returns them.

        Raises:
            ArgumentError: their number or a shape differs; nothing is changed then.
        """
        assign_all(self.label, self.labelled_parameters(), weights)

    def labelled_parameters(self) -> list[tuple[str, Parameter]]:
        """The weights in the order of `get_weights`, each with what messages call it: ``conv2d (Conv2D): kernel``."""
        return [(f"{self.label}: {name}", parameter) for name, parameter in self.parameters.items()]

    def count_params(self) -> int:
        """How many numbers the weights hold."""
        return sum(p.value.size for p in self.parameters.values())

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, fit for JSON."""
        return {"name": self.name, "trainable": self.trainable}

    @classmethod
    def from_config(cls: type[Self], config: dict[str, Any]) -> Self:
        """The layer that `get_config` described, not built."""
        return cls(**config)

    def __repr__(self) -> str:
        arguments_ = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments_})"


def assign_all(owner: str, parameters: Sequence[tuple[str, Parameter]], values: Sequence[ArrayLike]) -> None:
    """Assign all `values` or, where one doesn't fit, none.

    Args:
        owner: whose parameters they are, for the message.
        parameters: as `Layer.labelled_parameters` gives them.
        values: an array for each.

    Raises:
        ArgumentError: their number, a shape or a dtype differs.
    """
    arrays = [np.asarray(value) for value in values]
    if len(arrays) != len(parameters):
        raise ArgumentError(f"{owner}: got {len(arrays)} arrays of weights; expected {len(parameters)}")
    for (label, parameter), array in zip(parameters, arrays, strict=True):
        if array.shape != parameter.value.shape:
            raise ArgumentError(f"{label} has shape {array.shape}; expected {parameter.value.shape}")
        if array.dtype.kind not in "fiub":
            raise ArgumentError(f"{label} has dtype {array.dtype}; expected real numbers")
    for (_, parameter), array in zip(parameters, arrays, strict=True):
        parameter.assign(array)


def image_shape(layer: Layer, input_shape: Shape) -> tuple[int, int, int]:
    """`input_shape` as height, width, channels, for layers that take images."""
    if len(input_shape) != 3:
        needs = "expected images (height, width, channels)"
        raise ArgumentError(f"{layer.label}: got input of shape {input_shape}; {needs}")
    return input_shape[0], input_shape[1], input_shape[2]


def flat_size(shape: Shape) -> int:
    """How many numbers an array of this shape holds."""
    return math.prod(shape)
