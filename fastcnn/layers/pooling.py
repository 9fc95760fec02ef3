"""Pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast, get_args

from fastcnn import arguments
from fastcnn.layers import windows
from fastcnn.layers.base import NEUTRAL, Layer, Shape, image_shape

Ties = Literal["first", "all"]


class _Pooling2D(Layer):
    """What both poolings have: a window, its strides and what happens at the border."""

    def __init__(
        self,
        pool_size: int | Sequence[int],
        strides: int | Sequence[int] | None,
        padding: str,
        input_shape: Sequence[int] | None,
        name: str | None,
        trainable: bool,
        unknown: dict[str, Any],
    ) -> None:
        kind = type(self)
        arguments.refuse(kind.__name__, unknown, kind.__init__, NEUTRAL)
        super().__init__(name=name, trainable=trainable, input_shape=input_shape)
        self.pool_size = arguments.pair(f"{kind.__name__}: pool_size", pool_size)
        self.strides = self.pool_size
        if strides is not None:
            self.strides = arguments.pair(f"{kind.__name__}: strides", strides)
        self.padding = arguments.choice(f"{kind.__name__}: padding", padding, windows.PADDINGS)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        size = windows.output_size(self, "window", input_shape, self.pool_size, self.strides, self.padding)
        return (*size, input_shape[2])

    def get_config(self) -> dict[str, Any]:
        return {
            "pool_size": list(self.pool_size),
            "strides": list(self.strides),
            "padding": self.padding,
            **super().get_config(),
        }


class MaxPooling2D(_Pooling2D):
    """The maximum of each window of an image (height, width, channels).

    Output: (rows, columns, channels), where there are ``(height - pool height) // stride + 1`` rows with padding
    ``"valid"`` (a remainder is dropped) and ``ceil(height / stride)`` with ``"same"``; columns likewise.

    Args:
        pool_size: height and width of a window; one number for both.
        strides: how far windows lie apart (down, right); None: side by side, the same as `pool_size`.
        padding: ``"valid"``, or ``"same"``: windows may reach over the border; what lies there never wins.
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
        super().__init__(pool_size, strides, padding, input_shape, name, trainable, unknown)
        self.ties = cast("Ties", arguments.choice("MaxPooling2D: ties", ties, get_args(Ties)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "ties": self.ties}


class AveragePooling2D(_Pooling2D):
    """The mean of each window of an image (height, width, channels).

    Output: as for `MaxPooling2D`.

    Args:
        pool_size: height and width of a window; one number for both.
        strides: how far windows lie apart (down, right); None: side by side, the same as `pool_size`.
        padding: ``"valid"``, or ``"same"``: windows may reach over the border; the mean is over real pixels only.
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
        input_shape: Sequence[int] | None = None,
        name: str | None = None,
        trainable: bool = True,
        **unknown: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, input_shape, name, trainable, unknown)


class _GlobalPooling2D(Layer):
    """One number a channel.

    Args:
        keepdims: whether the output is (1, 1, channels) and not (channels,).
        input_shape: (height, width, channels) of one image, on a model's first layer.
    """

    def __init__(
        self,
        *,
        keepdims: bool = False,
        input_shape: Sequence[int] | None = None,
        name: str | None = None,
        trainable: bool = True,
        **unknown: Any,
    ) -> None:
        kind = type(self)
        arguments.refuse(kind.__name__, unknown, _GlobalPooling2D.__init__, NEUTRAL)
        super().__init__(name=name, trainable=trainable, input_shape=input_shape)
        self.keepdims = arguments.flag(f"{kind.__name__}: keepdims", keepdims)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        channels = image_shape(self, input_shape)[2]
        return (1, 1, channels) if self.keepdims else (channels,)

    def get_config(self) -> dict[str, Any]:
        return {"keepdims": self.keepdims, **super().get_config()}


class GlobalAveragePooling2D(_GlobalPooling2D):
    """The mean of each channel over the whole image: (height, width, channels) becomes (channels,).

    Args:
        keepdims: whether the output is (1, 1, channels) and not (channels,).
        input_shape: (height, width, channels) of one image, on a model's first layer.
    """


class GlobalMaxPooling2D(_GlobalPooling2D):
    """The maximum of each channel over the whole image: (height, width, channels) becomes (channels,).

    Where several pixels share the maximum, the gradient goes to the first in reading order.

    Args:
        keepdims: whether the output is (1, 1, channels) and not (channels,).
        input_shape: (height, width, channels) of one image, on a model's first layer.
    """
