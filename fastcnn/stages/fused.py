"""Neighbouring layers that run as one stage, on the Numba backend: their results never leave the cache in between.

* a convolution, its bias, ReLU and 2x2 max-pooling, in either order of the last two;
* a convolution, its bias and ReLU;
* a dense layer, its bias and ReLU;
* a convolution or a dense layer alone, before an activation that is a stage of its own.

Each stage keeps the arrays it works in from one batch to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import numpy as np

from fastcnn.backends.numba import conv, dense
from fastcnn.backends.numba.conv_pool import conv_pool_backward, conv_pool_forward
from fastcnn.backends.numba.packing import Workspace
from fastcnn.layers import Activation, Conv2D, Dense, Layer, MaxPooling2D, ReLU, windows
from fastcnn.layers.base import Array
from fastcnn.stages import activations
from fastcnn.stages.stage import Stage


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
        self._y, self._winners = conv_pool_forward(x, self._kernel(), bias, self._padding, self._relu, self._workspace)
        return self._y

    def backward(self, grad_y: Array) -> Array:
        gradients = conv_pool_backward(
            grad_y,
            self._y,
            self._winners,
            self._x,
            self._kernel(),
            self._padding,
            self._relu,
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
        kept = self._y if self._relu else dense.NONE
        work = self._workspace
        return self._finish(*dense.backward(grad_y, self._x, self._kernel(), self.wants_input, work, kept))


def take(layers: Sequence[Layer], operations: ModuleType) -> tuple[list[Stage], int] | None:
    """The stages that run the first of `layers` with what follows, and how many layers that are; None if none do."""
    first, rest = layers[0], layers[1:]
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
