"""Convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastcnn import arguments, initializers
from fastcnn.errors import ArgumentError
from fastcnn.initializers import Initializer
from fastcnn.layers import activations, windows
from fastcnn.layers.base import NEUTRAL, Layer, Shape, WeightSpec, image_shape


class Conv2D(Layer):
    """A 2-D convolution of images (height, width, channels): a cross-correlation, as Keras', no flip.

    Weights: kernel (kernel height, kernel width, input channels, filters); with `use_bias`, bias (filters,).
    Output: (rows, columns, filters), where there are ``(height - kernel height) // stride + 1`` rows with padding
    ``"valid"`` and ``ceil(height / stride)`` with ``"same"``; columns likewise.

    Args:
        filters: how many filters, which is the number of output channels.
        kernel_size: height and width of a filter; one number for both.
        strides: how many pixels the filter moves (down, right); one number for both.
        padding: ``"valid"``, or ``"same"``: zeros around the image.
        activation: a name from `fastcnn.layers.activations`, or None.
        use_bias: whether a bias is added to each filter's output.
        kernel_initializer, bias_initializer: names or objects from `fastcnn.initializers`.
        input_shape: (height, width, channels) of one image, on a model's first layer.

    Raises:
        ArgumentError: an argument or its value is not available.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = (1, 1),
        padding: str = "valid",
        *,
        activation: str | None = None,
        use_bias: bool = True,
        kernel_initializer: str | Initializer | dict[str, Any] = "glorot_uniform",
        bias_initializer: str | Initializer | dict[str, Any] = "zeros",
        input_shape: Sequence[int] | None = None,
        name: str | None = None,
        trainable: bool = True,
        **unknown: Any,
    ) -> None:
        arguments.refuse("Conv2D", unknown, Conv2D.__init__, NEUTRAL)
        super().__init__(name=name, trainable=trainable, input_shape=input_shape)
        self.filters = arguments.integer("Conv2D: filters", filters)
        self.kernel_size = arguments.pair("Conv2D: kernel_size", kernel_size)
        self.strides = arguments.pair("Conv2D: strides", strides)
        self.padding = arguments.choice("Conv2D: padding", padding, windows.PADDINGS)
        self.activation = activations.get("Conv2D", activation)
        self.use_bias = arguments.flag("Conv2D: use_bias", use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer, "Conv2D: kernel_initializer")
        self.bias_initializer = initializers.get(bias_initializer, "Conv2D: bias_initializer")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        size = windows.output_size(self, "kernel", input_shape, self.kernel_size, self.strides, self.padding)
        return (*size, self.filters)

    def weight_specs(self, input_shape: Shape) -> dict[str, WeightSpec]:
        shape = (*self.kernel_size, input_shape[2], self.filters)
        specs = {"kernel": WeightSpec(shape, self.kernel_initializer)}
        if self.use_bias:
            specs["bias"] = WeightSpec((self.filters,), self.bias_initializer)
        return specs

    def get_config(self) -> dict[str, Any]:
        return {
            "filters": self.filters,
            "kernel_size": list(self.kernel_size),
            "strides": list(self.strides),
            "padding": self.padding,
            "activation": self.activation,
            "use_bias": self.use_bias,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
            **super().get_config(),
        }


class ZeroPadding2D(Layer):
    """Rows and columns of zeros around an image (height, width, channels).

    Args:
        padding: one whole number for all four sides, (rows, columns), or ((above, below), (left, right)).
        input_shape: (height, width, channels) of one image, on a model's first layer.

    Raises:
        ArgumentError: `padding` is none of these.
    """

    def __init__(
        self,
        padding: int | Sequence[int] | Sequence[Sequence[int]] = (1, 1),
        *,
        input_shape: Sequence[int] | None = None,
        name: str | None = None,
        trainable: bool = True,
        **unknown: Any,
    ) -> None:
        arguments.refuse("ZeroPadding2D", unknown, ZeroPadding2D.__init__, NEUTRAL)
        super().__init__(name=name, trainable=trainable, input_shape=input_shape)
        rows, columns = _two("ZeroPadding2D: padding", padding)
        self.padding = _side(rows), _side(columns)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        height, width, channels = image_shape(self, input_shape)
        return height + sum(self.padding[0]), width + sum(self.padding[1]), channels

    def get_config(self) -> dict[str, Any]:
        return {"padding": [list(side) for side in self.padding], **super().get_config()}


def _two(name: str, value: Any) -> tuple[Any, Any]:
    """A value for each of two axes: a whole number stands for both."""
    if not isinstance(value, (tuple, list)):
        return value, value
    if len(value) != 2:
        raise ArgumentError(f"{name}={value!r}: expected one whole number, or two, or ((above, below), (left, right))")
    return value[0], value[1]


def _side(value: Any) -> tuple[int, int]:
    """Zeros before and after: a whole number stands for both."""
    before, after = _two("ZeroPadding2D: padding", value)
    name = "ZeroPadding2D: padding"
    return arguments.integer(name, before, least=0), arguments.integer(name, after, least=0)
