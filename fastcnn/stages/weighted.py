"""Stages of layers with weights: Conv2D and Dense (without their activations), BatchNormalization."""

from __future__ import annotations

import numpy as np

from fastcnn.layers import windows
from fastcnn.layers.base import Array
from fastcnn.stages.stage import Stage


class Conv2DStage(Stage):
    def forward(self, x: Array, training: bool, keep: bool) -> Array:
        self._x = x if keep else None
        layer = self.layer
        self._padding = windows.border(layer.input_shape, layer.kernel_size, layer.strides, layer.padding)
        y: Array = self.operations.conv2d_forward(
            x, self.value("kernel"), self.value("bias"), layer.strides, self._padding
        )
        return y

    def backward(self, grad_y: Array) -> Array:
        grad_x: Array
        grad_x, *gradients = self.operations.conv2d_backward(
            grad_y, self._x, self.value("kernel"), self.layer.strides, self._padding
        )
        self.gradients = gradients[: len(self.parameters)]
        return grad_x


class DenseStage(Stage):
    def forward(self, x: Array, training: bool, keep: bool) -> Array:
        self._x = x if keep else None
        y: Array = self.operations.dense_forward(x, self.value("kernel"), self.value("bias"))
        return y

    def backward(self, grad_y: Array) -> Array:
        grad_x: Array
        grad_x, *gradients = self.operations.dense_backward(grad_y, self._x, self.value("kernel"))
        self.gradients = gradients[: len(self.parameters)]
        return grad_x


class BatchNormalizationStage(Stage):
    def forward(self, x: Array, training: bool, keep: bool) -> Array:
        self._x = x if keep else None
        self._own = training and self.layer.trainable
        if self._own:
            self._mean, self._variance = self.operations.batchnorm_moments(x)
        else:
            self._mean, self._variance = self.value("moving_mean"), self.value("moving_variance")
        beta = self.value("beta")
        beta = np.zeros_like(self._mean) if beta is None else beta
        y: Array = self.operations.batchnorm_forward(
            x, self._gamma(), beta, self._mean, self._variance, self.layer.epsilon
        )
        return y

    def backward(self, grad_y: Array) -> Array:
        gamma, epsilon = self._gamma(), self.layer.epsilon
        grad_x: Array
        grad_x, grad_gamma, grad_beta = self.operations.batchnorm_backward(
            grad_y, self._x, gamma, self._mean, self._variance, epsilon, self._own
        )
        # In training the output doesn't depend on the moving statistics.
        share = 0.0 if self._own else 1.0
        by_name = {
            "gamma": grad_gamma,
            "beta": grad_beta,
            "moving_mean": -share * gamma / np.sqrt(self._variance + epsilon) * grad_beta,
            "moving_variance": -0.5 * share * gamma / (self._variance + epsilon) * grad_gamma,
        }
        self.gradients = [by_name[name] for name in self.layer.parameters]
        return grad_x

    def commit(self) -> None:
        if not self._own:
            return
        momentum = self.layer.momentum
        for name, batch in (("moving_mean", self._mean), ("moving_variance", self._variance)):
            parameter = self.layer.parameters[name]
            parameter.value *= momentum
            parameter.value += (1.0 - momentum) * batch
            parameter.changed()

    def _gamma(self) -> Array:
        gamma = self.value("gamma")
        return np.ones_like(self._mean) if gamma is None else gamma
