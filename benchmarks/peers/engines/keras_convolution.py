"""TensorFlow's convolution, forward and each gradient alone, as compiled functions."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from benchmarks.peers.problem import Array, convolution
from benchmarks.peers.shapes import ConvShape
from benchmarks.peers.workloads import Workload

#: Name -> XLA.
WAYS = {"tf.function": False, "tf.function, XLA": True}


class Convolution:
    """One call. Padding that is not TensorFlow's "SAME" is added before, and cut off the gradient."""

    def __init__(self, workload: Workload, way: str) -> None:
        shape = ConvShape.parse(workload.shape)
        x, filters, grad_y = (tf.constant(array) for array in convolution(shape))
        same = shape.ph > 0 and shape.sh == 1 and shape.oh == shape.ih
        extra = 0 if same else shape.ph
        strides, padding = [1, shape.sh, shape.sh, 1], "SAME" if same else "VALID"
        padded_size = (shape.mb, shape.ih + 2 * extra, shape.ih + 2 * extra, shape.ic)

        def padded(x: Any) -> Any:
            return tf.pad(x, [[0, 0], [extra, extra], [extra, extra], [0, 0]]) if extra else x

        def forward(x: Any, filters: Any, grad_y: Any) -> Any:
            return tf.nn.conv2d(padded(x), filters, strides, padding)

        def input_gradient(x: Any, filters: Any, grad_y: Any) -> Any:
            grad_x = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=padded_size, filter=filters, out_backprop=grad_y, strides=strides, padding=padding
            )
            return grad_x[:, extra:-extra, extra:-extra] if extra else grad_x

        def filter_gradient(x: Any, filters: Any, grad_y: Any) -> Any:
            return tf.raw_ops.Conv2DBackpropFilter(
                input=padded(x),
                filter_sizes=shape.filter_shape,
                out_backprop=grad_y,
                strides=strides,
                padding=padding,
            )

        calls = {"conv-forward": forward, "conv-input": input_gradient, "conv-filter": filter_gradient}
        self._call = tf.function(calls[workload.kind], jit_compile=WAYS[way])
        self._arguments = x, filters, grad_y

    def run(self) -> None:
        self._result = self._call(*self._arguments)  # returns when it is done: eager execution on CPUs is synchronous

    def outcome(self) -> dict[str, Array]:
        return {"result": self._result.numpy()}
