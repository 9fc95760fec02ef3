"""Stages of the pooling layers."""

from __future__ import annotations

from fastcnn.layers import windows
from fastcnn.layers.base import Array
from fastcnn.stages.stage import Stage


class MaxPooling2DStage(Stage):
    def forward(self, x: Array, training: bool, keep: bool) -> Array:
        layer = self.layer
        self._shape = x.shape
        self._padding = windows.border(layer.input_shape, layer.pool_size, layer.strides, layer.padding)
        y: Array
        y, winners = self.operations.maxpool2d_forward(x, layer.pool_size, layer.ties, layer.strides, self._padding)
        self._winners: Array | None = winners if keep else None
        return y

    def backward(self, grad_y: Array) -> Array:
        grad_x: Array = self.operations.maxpool2d_backward(
            grad_y, self._winners, self._shape, self.layer.pool_size, self.layer.strides, self._padding
        )
        return grad_x


class AveragePooling2DStage(Stage):
    def forward(self, x: Array, training: bool, keep: bool) -> Array:
        layer = self.layer
        self._shape = x.shape
        self._padding = windows.border(layer.input_shape, layer.pool_size, layer.strides, layer.padding)
        y: Array = self.operations.avgpool2d_forward(x, layer.pool_size, layer.strides, self._padding)
        return y

    def backward(self, grad_y: Array) -> Array:
        grad_x: Array = self.operations.avgpool2d_backward(
            grad_y, self._shape, self.layer.pool_size, self.layer.strides, self._padding
        )
        return grad_x


class GlobalMaxPooling2DStage(Stage):
    """One window as large as the image."""

    def forward(self, x: Array, training: bool, keep: bool) -> Array:
        self._shape = x.shape
        y: Array
        y, winners = self.operations.maxpool2d_forward(x, x.shape[1:3], "first")
        self._winners: Array | None = winners if keep else None
        return y.reshape(len(x), *self.layer.output_shape)

    def backward(self, grad_y: Array) -> Array:
        samples, height, width, channels = self._shape
        grad_x: Array = self.operations.maxpool2d_backward(
            grad_y.reshape(samples, 1, 1, channels), self._winners, self._shape, (height, width)
        )
        return grad_x


class GlobalAveragePooling2DStage(Stage):
    """One window as large as the image."""

    def forward(self, x: Array, training: bool, keep: bool) -> Array:
        self._shape = x.shape
        y: Array = self.operations.avgpool2d_forward(x, x.shape[1:3])
        return y.reshape(len(x), *self.layer.output_shape)

    def backward(self, grad_y: Array) -> Array:
        samples, height, width, channels = self._shape
        grad_x: Array = self.operations.avgpool2d_backward(
            grad_y.reshape(samples, 1, 1, channels), self._shape, (height, width)
        )
        return grad_x
