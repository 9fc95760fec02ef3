"""Convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastcnn import arguments, initializers
from fastcnn.initializers import Initializer
from fastcnn.layers import activations
from fastcnn.layers.base import NEUTRAL, Layer, Shape, WeightSpec, image_shape


class Conv2D(Layer):
    """A 2-D convolution of images (height, width, channels): a cross-correlation, as Keras', no flip.

    Weights: kernel (kernel height, kernel width, input channels, filters); with `use_bias`, bias (filters,).
    Output: (height - kernel height + 1, width - kernel width + 1, filters).

    Args:
        filters: how many filters, which is the number of output channels.
        kernel_size: height and width of a filter; one number for both.
        strides: only 1 so far.
        padding: only ``"valid"`` so far.
        activation: only None or ``"linear"`` so far.
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
        if arguments.pair("Conv2D: strides", strides) != (1, 1):
            raise arguments.not_yet("Conv2D", "strides", strides, "1")
        if padding != "valid":
            raise arguments.not_yet("Conv2D", "padding", padding, "'valid'")
        self.activation = activations.get("Conv2D", activation, ("linear",))
        self.use_bias = arguments.flag("Conv2D: use_bias", use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        height, width, _ = image_shape(self, input_shape)
        rows, columns = height - self.kernel_size[0] + 1, width - self.kernel_size[1] + 1
        if rows < 1 or columns < 1:
            kernel = f"{self.kernel_size[0]}x{self.kernel_size[1]}"
            raise arguments.does_not_fit(self.label, f"a {kernel} kernel", f"{height}x{width}")
        return rows, columns, self.filters

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
            "activation": self.activation,
            "use_bias": self.use_bias,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
            **super().get_config(),
        }
