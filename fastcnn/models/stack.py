"""A stack of layers: structure, weights, description. `fastcnn.models.Sequential` trains and runs it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike
from rich.console import Console

from fastcnn import absent, arguments, backends, stages, utils
from fastcnn.errors import ArgumentError
from fastcnn.layers import Input, Layer
from fastcnn.layers.base import Array, Parameter, Shape, assign_all
from fastcnn.models import summary


class Stack:
    """Layers on top of each other, each built for what the one below gives.

    Args:
        layers: in order. The first may be `Input(shape)` or carry `input_shape`.
        backend: the name of the implementation that will run them; it decides what weights are kept in.
        dtype: what weights are kept in; ``"float64"`` is for im2col and reference. None: the backend's own.
        seed: fixes the weights and whatever else is drawn. None: after `utils.set_random_seed` the next of
            its seeds, else a fresh one.
        name: only for display.

    Raises:
        ArgumentError: an argument is not available, or a layer doesn't fit the one below.
    """

    def __init__(
        self,
        layers: Sequence[Layer] | None,
        backend: str,
        dtype: str | None,
        seed: int | None,
        name: str | None,
    ) -> None:
        self.backend = arguments.choice("backend", backend, backends.BACKENDS)
        available = stages.DTYPES[self.backend]
        self.dtype = np.dtype(arguments.choice("dtype", dtype or available[0], available))
        self.seed = utils.new_seed() if seed is None else arguments.integer("seed", seed, least=0)
        self.name = name or type(self).__name__.lower()
        self._layers: list[Layer] = []
        self._input_shape: Shape | None = None
        streams = np.random.SeedSequence(self.seed).spawn(3)
        self._weight_draws, self._shuffler, self._masks = (np.random.default_rng(stream) for stream in streams)
        for layer in layers or ():
            self.add(layer)

    if not TYPE_CHECKING:  # or every attribute would be known to exist

        def __getattr__(self, name: str) -> Any:
            instead = absent.advice("Sequential", name)
            advice = "" if instead is None else f"; {instead}"
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}{advice}", name=name, obj=self)

    def __call__(self, *inputs: object) -> NoReturn:
        """``model(x)``, as Keras and PyTorch have it, isn't available.

        Raises:
            ArgumentError: always.
        """
        raise ArgumentError(f"{self.name}: models aren't called here; use predict(x)")

    def changed(self) -> None:
        """Called after every change of the structure."""

    @property
    def layers(self) -> list[Layer]:
        """The layers, in order, without `Input`."""
        return list(self._layers)

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """The layer called so, or at that place; negative ones count from the end.

        Raises:
            ArgumentError: there is none, or not exactly one of the two was given.
        """
        if (name is None) == (index is None):
            raise ArgumentError(f"get_layer: name={name!r}, index={index!r}: expected one of the two")
        if index is not None:
            count = len(self._layers)
            place = arguments.integer("get_layer: index", index, least=-count)
            if place >= count:
                raise ArgumentError(f"get_layer: index={index!r}, but there are {count} layers")
            return self._layers[place]
        names = [layer.name for layer in self._layers]
        if name in names:
            return self._layers[names.index(name)]
        raise ArgumentError(f"get_layer: name={name!r} is unknown; there are: {arguments.listing(names)}")

    @property
    def built(self) -> bool:
        """Whether the input's shape is known, so that the weights exist."""
        return self._input_shape is not None

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """The shape of `x`, the batch as None."""
        return (None, *self._shape())

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """The shape of what `predict` returns, the batch as None."""
        shape = self._shape()
        return (None, *(self._layers[-1].output_shape if self._layers else shape))

    def add(self, layer: Layer) -> None:
        """Put one more layer on top.

        Raises:
            ArgumentError: it is no layer of ours, it or its name is there already, or it doesn't fit the layer below.
        """
        if not isinstance(layer, Layer):
            raise ArgumentError(f"{layer!r} is no layer; expected one of fastcnn.layers")
        if isinstance(layer, Input) and (self._layers or self.built):
            raise ArgumentError("Input: only the first layer can be an Input")
        if any(other is layer for other in self._layers):
            raise ArgumentError(f"{layer.label}: the model has this layer already; add another one of its kind")
        taken = {other.name for other in self._layers}
        if layer.name in taken:
            raise ArgumentError(f"{layer.label}: the model has a layer of that name; give another name=")
        declared = layer.declared_input_shape
        if self.built and not self._layers and declared not in (None, self._input_shape):
            raise ArgumentError(f"{layer.label}: input_shape={declared} contradicts Input({self._input_shape})")
        if isinstance(layer, Input):
            self._input_shape = declared
            return
        if layer.name is None:
            layer.name = _free_name(type(layer).__name__, taken)
        below = self._layers[-1].output_shape if self._layers and self.built else self._input_shape
        if below is None and not self._layers:
            below = declared or layer.input_shape
        if below is not None:
            layer.build(below, self._weight_draws, self.dtype)
            self._input_shape = self._input_shape or below
        self._layers.append(layer)
        self.changed()

    def pop(self) -> Layer:
        """Take the top layer off and return it.

        Raises:
            ArgumentError: there is none.
        """
        if not self._layers:
            raise ArgumentError("pop: the model has no layers")
        self.changed()
        return self._layers.pop()

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Draw the weights for `x` of this shape, with the batch (as None or a number) in front.

        Raises:
            ArgumentError: a layer can't take it, or the model is built for another shape.
        """
        shape = arguments.shape("input_shape", tuple(input_shape)[1:])
        if self.built and shape != self._input_shape:
            raise ArgumentError(f"build: the model is built for {self._input_shape}; it can't change to {shape}")
        below = shape
        for layer in self._layers:  # all shapes first, so that a misfit leaves no layer built
            below = layer.compute_output_shape(below)
        self._input_shape = below = shape
        for layer in self._layers:
            layer.build(below, self._weight_draws, self.dtype)
            below = layer.output_shape

    def _shape(self) -> Shape:
        if self._input_shape is None:
            raise ArgumentError("the input's shape is unknown; give the first layer input_shape=, or call build()")
        return self._input_shape

    def generators(self) -> dict[str, np.random.Generator]:
        """What training draws from, by name: the order of samples, masks, and generators that are a layer's own."""
        own = {f"layer {layer.name}": getattr(layer, "generator", None) for layer in self._layers}
        drawing = {name: generator for name, generator in own.items() if generator is not None}
        return {"samples": self._shuffler, "masks": self._masks, **drawing}

    def summary(self, print_fn: Callable[[str], Any] | None = None) -> None:
        """Print the table of layers, output shapes and parameters, or pass it to `print_fn`."""
        table = summary.table(self.name, self._layers)
        if print_fn is None:
            Console().print(table)
        else:
            console = Console(width=100)
            with console.capture() as captured:
                console.print(table)
            print_fn(captured.get())

    def _parameters(self) -> list[Parameter]:
        self._shape()
        return [p for layer in self._layers for p in layer.parameters.values()]

    def get_weights(self) -> list[Array]:
        """Copies of all weights: layer by layer, kernel before bias."""
        return [p.value.copy() for p in self._parameters()]

    def set_weights(self, weights: Sequence[ArrayLike]) -> None:
        """Overwrite all weights with arrays as `get_weights` returns them.

        Raises:
            ArgumentError: their number or a shape differs; nothing is changed then.
        """
        self._shape()
        assign_all("set_weights", [each for layer in self._layers for each in layer.labelled_parameters()], weights)

    def count_params(self) -> int:
        """How many numbers the weights hold."""
        return sum(p.value.size for p in self._parameters())

    def get_config(self) -> dict[str, Any]:
        """The architecture, fit for JSON."""
        described = [{"class": type(layer).__name__, "config": layer.get_config()} for layer in self._layers]
        return {"name": self.name, "input_shape": list(self._shape()), "layers": described}


def _free_name(kind: str, taken: set[str | None]) -> str:
    """Keras' numbering: ``max_pooling2d``, ``max_pooling2d_1``, ``max_pooling2d_2``."""
    number, base = 0, re.sub("(?<=[a-z])(?=[A-Z][a-z])", "_", kind).lower()
    while (name := f"{base}_{number}" if number else base) in taken:
        number += 1
    return name
