"""Where windows lie: output sizes and zeros at the border, by the rule of Keras and TensorFlow."""

from __future__ import annotations

from fastcnn import arguments
from fastcnn.layers.base import Layer, Shape, image_shape

#: Zeros added ((above, below), (left, right)).
Padding = tuple[tuple[int, int], tuple[int, int]]

PADDINGS = ("valid", "same")


def output_size(
    layer: Layer, what: str, input_shape: Shape, window: tuple[int, int], strides: tuple[int, int], padding: str
) -> tuple[int, int]:
    """The output's height and width.

    With ``"valid"`` windows lie inside the image: ``(size - window) // stride + 1``. With ``"same"`` there are
    ``ceil(size / stride)``, whatever the window.

    Args:
        layer, what: for the message: the layer, and ``"kernel"`` or ``"window"``.
        input_shape: (height, width, channels).
        window: (height, width) of the kernel or pooling window.
        strides: (down, right), how far windows lie apart.
        padding: ``"valid"`` or ``"same"``.

    Raises:
        ArgumentError: with ``"valid"``, the window is larger than the image.
    """
    height, width, _ = image_shape(layer, input_shape)
    if padding == "same":
        return -(-height // strides[0]), -(-width // strides[1])
    if window[0] > height or window[1] > width:
        raise arguments.does_not_fit(layer.label, f"a {window[0]}x{window[1]} {what}", f"{height}x{width}")
    return (height - window[0]) // strides[0] + 1, (width - window[1]) // strides[1] + 1


def border(input_shape: Shape, window: tuple[int, int], strides: tuple[int, int], padding: str) -> Padding:
    """The zeros that ``"same"`` adds: as few as let the last window end inside; an odd one below, right."""
    if padding == "valid":
        return (0, 0), (0, 0)
    (above, below), (left, right) = (_split(n, w, s) for n, w, s in zip(input_shape[:2], window, strides, strict=True))
    return (above, below), (left, right)


def _split(size: int, window: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2
