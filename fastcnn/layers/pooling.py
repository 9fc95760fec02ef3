"""Pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast, get_args

from fastcnn import arguments
from fastcnn.layers.base import NEUTRAL, Layer, Shape, image_shape

Ties = Literal["first", "all"]


class MaxPooling2D(Layer):
    """The maximum of each window of an image (height, width, channels); windows don't overlap.

    Output: (height // pool height, width // pool width, channels); odd remainders are dropped.

    Args:
        pool_size: height and width of a window; one number for both.
        strides: None, or the same as `pool_size`.
        padding: only ``"valid"`` so far.
        ties: where several elements of a window share the maximum, which of them the gradient goes to:
            ``"first"`` in reading order, as in Keras and PyTorch, or ``"all"``, as in the tutorial, each the
            whole of it.
        input_shape: (height, width, channels) of one image, on a model's first layer.

    Raises:
        ArgumentError: an argument or its value is not available.
    """

    def __init__(
        self,
        pool_size: int | Sequence[int] = (2, 2),
        strides: int | Sequence[int] | None = None,
        padding: str = "valid",
        *,
        ties: str = "first",
        input_shape: Sequence[int] | None = None,
        name: str | None = None,
        trainable: bool = True,
        **unknown: Any,
    ) -> None:
        arguments.refuse("MaxPooling2D", unknown, MaxPooling2D.__init__, NEUTRAL)
        super().__init__(name=name, trainable=trainable, input_shape=input_shape)
        self.pool_size = arguments.pair("MaxPooling2D: pool_size", pool_size)
        if strides is not None and arguments.pair("MaxPooling2D: strides", strides) != self.pool_size:
            raise arguments.not_yet("MaxPooling2D", "strides", strides, "None (the same as pool_size)")
        if padding != "valid":
            raise arguments.not_yet("MaxPooling2D", "padding", padding, "'valid'")
        self.ties = cast("Ties", arguments.choice("MaxPooling2D: ties", ties, get_args(Ties)))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        height, width, channels = image_shape(self, input_shape)
        rows, columns = height // self.pool_size[0], width // self.pool_size[1]
        if rows < 1 or columns < 1:
            window = f"{self.pool_size[0]}x{self.pool_size[1]}"
            raise arguments.does_not_fit(self.label, f"a {window} window", f"{height}x{width}")
        return rows, columns, channels

    def get_config(self) -> dict[str, Any]:
        return {"pool_size": list(self.pool_size), "ties": self.ties, **super().get_config()}
