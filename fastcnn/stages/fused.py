"""Neighbouring layers that run as one stage, on the Numba backend: their results never leave the cache in between.

* the casting of images and their rescaling;
* a convolution, its bias, ReLU and 2x2 max-pooling, in either order of the last two;
* a convolution, its bias and ReLU;
* a dense layer, its bias and ReLU;
* dropout's draw and its product;
* the loss and the number of right answers;
* a convolution or a dense layer alone, before an activation that is a stage of its own.

Each stage keeps the arrays it works in from one batch to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import numpy as np

from fastcnn.backends.numba import dense, pixels
from fastcnn.backends.numba.conv import operations as conv
from fastcnn.backends.numba.conv.pooled import conv_pool_backward, conv_pool_forward
from fastcnn.backends.numba.dropout import dropout
from fastcnn.backends.numba.packing import Workspace, float32, plain
from fastcnn.backends.numba.softmax import cross_entropy_rows
from fastcnn.layers import Activation, Conv2D, Dense, Dropout, Layer, MaxPooling2D, ReLU, Rescaling, windows
from fastcnn.layers.base import Array
from fastcnn.stages import activations
from fastcnn.stages.objective import Objective
from fastcnn.stages.reading import Reader
from fastcnn.stages.shaping import DropoutStage, RescalingStage
from fastcnn.stages.stage import Stage


class FusedReader(Reader):
    """Taking a batch out of the images, casting, and the Rescaling that a model begins with, if it does.

    Args:
        rescaling: that, or None.
    """

    def __init__(self, rescaling: Rescaling | None) -> None:
        super().__init__(np.float32)
        self._factors = None if rescaling is None else (rescaling.scale, rescaling.offset)
        self._workspace = Workspace()

    def read(self, images: Array, chosen: Array | slice) -> Array:
        if images.dtype not in (np.uint8, np.float32) or not images.flags.carray:  # not what the kernel is compiled for
            images, chosen = plain(images[chosen], np.float32), slice(None)
        if isinstance(chosen, slice):
            if self._factors is None and images.dtype == np.float32:
                return images[chosen]
            chosen = np.arange(*chosen.indices(len(images)), dtype=np.int64)
        batch = self._workspace.array("batch", (len(chosen), *images.shape[1:]))
        pixels.read(images, chosen, *(self._factors or (1.0, 0.0)), batch)
        return batch


class ReadStage(RescalingStage):
    """The Rescaling that the reader has done: only the way back is left."""

    def forward(self, x: Array, training: bool, keep: bool) -> Array:
        return x


class FusedObjective(Objective):
    """Softmax, cross-entropy, its gradient and the count of right answers, for labels that are class numbers."""

    def measure(self, outputs: Array, targets: Array) -> tuple[Array, Array, int]:
        if not self.takes_logits or targets.ndim != 1:
            return super().measure(outputs, targets)
        losses, _, grad_outputs, right = cross_entropy_rows(outputs, targets)
        return losses, grad_outputs, int(np.count_nonzero(right))


class FusedStage(Stage):
    """A layer with weights and what follows it.

    Args:
        layer: the convolution or the dense layer.
        operations: the backend's module.
        relu: whether a ReLU follows.
    """

    def __init__(self, layer: Layer, operations: ModuleType, relu: bool) -> None:
        super().__init__(layer, operations)
        self._relu = relu
        self._least = 0.0 if relu else -np.inf
        self._workspace = Workspace()

    def _kernel(self) -> Array:
        kernel = self.value("kernel")
        assert kernel is not None
        return kernel

    def _finish(self, grad_x: Array | None, *gradients: Array) -> Array:
        """Leave the gradients of the weights; return that of the input, empty if nobody wants it."""
        self.gradients = list(gradients[: len(self.parameters)])
        return np.empty(0, np.float32) if grad_x is None else grad_x


class FusedConv2DStage(FusedStage):
    """A convolution, and a ReLU perhaps."""

    def forward(self, x: Array, training: bool, keep: bool) -> Array:
        layer = self.layer
        self._padding = windows.border(layer.input_shape, layer.kernel_size, layer.strides, layer.padding)
        self._x = x
        bias = self.value("bias")
        self._y = conv.forward(x, self._kernel(), bias, layer.strides, self._padding, self._workspace, self._least)
        return self._y

    def backward(self, grad_y: Array) -> Array:
        kernel, strides, padding, work = self._kernel(), self.layer.strides, self._padding, self._workspace
        kept = self._y if self._relu else conv.EVERYTHING
        grad_x = None
        if self.wants_input:
            grad_x = conv.input_gradient(grad_y, kernel, self._x.shape, strides, padding, kept, work)
        gradients = conv.filter_gradient(grad_y, self._x, kernel.shape[:2], strides, padding, kept, work)
        return self._finish(grad_x, *gradients)


class ConvPoolStage(FusedStage):
    """A convolution, 2x2 max-pooling, and a ReLU perhaps."""

    def forward(self, x: Array, training: bool, keep: bool) -> Array:
        layer = self.layer
        self._padding = windows.border(layer.input_shape, layer.kernel_size, layer.strides, layer.padding)
        self._x = x
        bias = self.value("bias")
        y, self._winners = conv_pool_forward(x, self._kernel(), bias, self._padding, self._relu, self._workspace)
        return y

    def backward(self, grad_y: Array) -> Array:
        gradients = conv_pool_backward(
            grad_y,
            self._winners,
            self._x,
            self._kernel(),
            self._padding,
            self.wants_input,
            self._workspace,
        )
        return self._finish(*gradients)


class FusedDenseStage(FusedStage):
    """A dense layer, and a ReLU perhaps."""

    def forward(self, x: Array, training: bool, keep: bool) -> Array:
        self._x = x
        self._y = dense.forward(x, self._kernel(), self.value("bias"), self._workspace, self._least)
        return self._y

    def backward(self, grad_y: Array) -> Array:
        kept = self._y if self._relu else dense.EVERYTHING
        work = self._workspace
        return self._finish(*dense.backward(grad_y, self._x, self._kernel(), self.wants_input, work, kept))


class FusedDropoutStage(DropoutStage):
    """Drawing a mask and multiplying with it."""

    def __init__(self, layer: Layer, operations: ModuleType, generator: np.random.Generator) -> None:
        super().__init__(layer, operations, generator)
        self._workspace = Workspace()

    def _masked(self, x: Array, seed: int) -> Array:
        y = self._workspace.array("y", x.shape)
        dropout(x, seed, *self._terms(), y)
        return y

    def backward(self, grad_y: Array) -> Array:
        if self._seed is None:
            return grad_y
        grad = float32(grad_y)
        dropout(grad, self._seed, *self._terms(), grad)
        return grad


def begin(layers: Sequence[Layer], operations: ModuleType) -> tuple[Reader, list[Stage]]:
    """What reads the images, and the stage of the first of `layers` if the reader does that layer's work."""
    if layers and isinstance(layers[0], Rescaling):
        return FusedReader(layers[0]), [ReadStage(layers[0], operations)]
    return FusedReader(None), []


def take(
    layers: Sequence[Layer], operations: ModuleType, generator: np.random.Generator
) -> tuple[list[Stage], int] | None:
    """The stages that run the first of `layers` with what follows, and how many layers that are; None if none do.

    Args:
        layers: the next ones of a model.
        operations: the backend's module.
        generator: what Dropout draws from.
    """
    first, rest = layers[0], layers[1:]
    if isinstance(first, Dropout):
        return [FusedDropoutStage(first, operations, generator)], 1
    if not isinstance(first, (Conv2D, Dense)):
        return None
    if first.activation not in ("linear", "relu"):
        stage = FusedDenseStage if isinstance(first, Dense) else FusedConv2DStage
        return [stage(first, operations, relu=False), *activations.of(first, operations)], 1
    relu, used = first.activation == "relu", 1
    if not relu and rest and _is_relu(rest[0]):
        relu, used, rest = True, 2, rest[1:]
    if isinstance(first, Dense):
        return [FusedDenseStage(first, operations, relu)], used
    if first.strides == (1, 1) and rest and _is_small_pool(rest[0]):
        used, rest = used + 1, rest[1:]
        if not relu and rest and _is_relu(rest[0]):
            relu, used = True, used + 1
        return [ConvPoolStage(first, operations, relu)], used
    return [FusedConv2DStage(first, operations, relu)], used


def _is_relu(layer: Layer) -> bool:
    if isinstance(layer, ReLU):
        return layer.negative_slope == 0
    return isinstance(layer, Activation) and layer.activation == "relu"


def _is_small_pool(layer: Layer) -> bool:
    """Whether it is 2x2 max-pooling, windows side by side, that gives the gradient to the first of equals."""
    if not isinstance(layer, MaxPooling2D) or layer.ties != "first" or layer.input_shape is None:
        return False
    height, width, _ = layer.input_shape
    whole = layer.padding == "valid" or (height % 2 == 0 and width % 2 == 0)
    return layer.pool_size == (2, 2) and layer.strides == (2, 2) and whole
