"""Input, Rescaling, Flatten, Reshape and Dense."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastcnn import arguments, initializers
from fastcnn.errors import ArgumentError
from fastcnn.initializers import Initializer
from fastcnn.layers import activations
from fastcnn.layers.base import NEUTRAL, Layer, Shape, WeightSpec, flat_size


class Input(Layer):
    """States the shape of one sample, as the first of a model's layers; `Sequential.layers` doesn't list it.

    Args:
        shape: without the batch: ``(28, 28, 1)``.
    """

    def __init__(self, shape: Sequence[int], *, name: str | None = None, **unknown: Any) -> None:
        arguments.refuse("Input", unknown, Input.__init__, {**NEUTRAL, "batch_size": (None,)})
        super().__init__(name=name, input_shape=arguments.shape("Input: shape", shape))


class Rescaling(Layer):
    """``x * scale + offset``: pixels 0 to 255 become -0.5 to 0.5 with ``Rescaling(1 / 255, offset=-0.5)``.

    Args:
        scale, offset: finite numbers.
        input_shape: the shape of one sample, on a model's first layer.
    """

    def __init__(
        self,
        scale: float,
        offset: float = 0.0,
        *,
        input_shape: Sequence[int] | None = None,
        name: str | None = None,
        trainable: bool = True,
        **unknown: Any,
    ) -> None:
        arguments.refuse("Rescaling", unknown, Rescaling.__init__, NEUTRAL)
        super().__init__(name=name, trainable=trainable, input_shape=input_shape)
        self.scale = arguments.real("Rescaling: scale", scale)
        self.offset = arguments.real("Rescaling: offset", offset)

    def get_config(self) -> dict[str, Any]:
        return {"scale": self.scale, "offset": self.offset, **super().get_config()}


class Flatten(Layer):
    """One flat row a sample, in the order of memory: of (height, width, channels) channels change fastest."""

    def __init__(
        self,
        *,
        input_shape: Sequence[int] | None = None,
        name: str | None = None,
        trainable: bool = True,
        **unknown: Any,
    ) -> None:
        arguments.refuse("Flatten", unknown, Flatten.__init__, NEUTRAL)
        super().__init__(name=name, trainable=trainable, input_shape=input_shape)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (flat_size(input_shape),)


class Reshape(Layer):
    """The same numbers in the same order under another shape.

    Args:
        target_shape: the shape of one output sample; one of its sizes may be -1: whatever is left.
        input_shape: the shape of one sample, on a model's first layer.

    Raises:
        ArgumentError: `target_shape` is no shape.
    """

    def __init__(
        self,
        target_shape: Sequence[int],
        *,
        input_shape: Sequence[int] | None = None,
        name: str | None = None,
        trainable: bool = True,
        **unknown: Any,
    ) -> None:
        arguments.refuse("Reshape", unknown, Reshape.__init__, NEUTRAL)
        super().__init__(name=name, trainable=trainable, input_shape=input_shape)
        self.target_shape = arguments.shape("Reshape: target_shape", target_shape, open_sizes=True)
        if self.target_shape.count(-1) > 1:
            raise ArgumentError(f"Reshape: target_shape={target_shape!r}: only one size can be -1")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        total, known = flat_size(input_shape), flat_size(tuple(abs(n) for n in self.target_shape))
        if total % known or (total != known and -1 not in self.target_shape):
            holds = f"{total} numbers, shape {input_shape}"
            raise ArgumentError(f"{self.label}: got input of {holds}; they don't fill target_shape {self.target_shape}")
        return tuple(total // known if size == -1 else size for size in self.target_shape)

    def get_config(self) -> dict[str, Any]:
        return {"target_shape": list(self.target_shape), **super().get_config()}


class Dense(Layer):
    """A fully connected layer on flat rows: ``x @ kernel + bias``.

    Weights: kernel (inputs, units) and, with `use_bias`, bias (units,). Output: (units,).

    Args:
        units: how many outputs.
        activation: a name from `fastcnn.layers.activations`, or None.
        use_bias: whether a bias is added.
        kernel_initializer, bias_initializer: names or objects from `fastcnn.initializers`.
        input_shape: (inputs,), on a model's first layer; `input_dim` is the same as a number.

    Raises:
        ArgumentError: an argument or its value is not available.
    """

    def __init__(
        self,
        units: int,
        activation: str | None = None,
        use_bias: bool = True,
        kernel_initializer: str | Initializer | dict[str, Any] = "glorot_uniform",
        bias_initializer: str | Initializer | dict[str, Any] = "zeros",
        *,
        input_shape: Sequence[int] | None = None,
        input_dim: int | None = None,
        name: str | None = None,
        trainable: bool = True,
        **unknown: Any,
    ) -> None:
        arguments.refuse("Dense", unknown, Dense.__init__, NEUTRAL)
        if input_dim is not None:
            input_shape = (arguments.integer("Dense: input_dim", input_dim),)
        super().__init__(name=name, trainable=trainable, input_shape=input_shape)
        self.units = arguments.integer("Dense: units", units)
        self.activation = activations.get("Dense", activation)
        self.use_bias = arguments.flag("Dense: use_bias", use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer, "Dense: kernel_initializer")
        self.bias_initializer = initializers.get(bias_initializer, "Dense: bias_initializer")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 1:
            remedy = "put Flatten() before it"
            raise ArgumentError(f"{self.label}: got input of shape {input_shape}, expected flat rows; {remedy}")
        return (self.units,)

    def weight_specs(self, input_shape: Shape) -> dict[str, WeightSpec]:
        specs = {"kernel": WeightSpec((input_shape[0], self.units), self.kernel_initializer)}
        if self.use_bias:
            specs["bias"] = WeightSpec((self.units,), self.bias_initializer)
        return specs

    def get_config(self) -> dict[str, Any]:
        return {
            "units": self.units,
            "activation": self.activation,
            "use_bias": self.use_bias,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
            **super().get_config(),
        }
