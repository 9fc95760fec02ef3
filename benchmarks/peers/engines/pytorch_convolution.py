"""PyTorch's convolution, forward and each gradient alone, in both memory layouts."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from benchmarks.peers.problem import Array, convolution
from benchmarks.peers.shapes import ConvShape
from benchmarks.peers.workloads import Workload

LAYOUTS = {"channels last": torch.channels_last, "channels first": torch.contiguous_format}

#: Which of the gradients for images, filters and bias `convolution_backward` computes.
_MASKS = {"conv-input": [True, False, False], "conv-filter": [False, True, False]}


class Convolution:
    """One call, its arguments in the layout that it likes."""

    def __init__(self, workload: Workload, layout: str) -> None:
        shape = ConvShape.parse(workload.shape)
        x, filters, grad_y = (torch.from_numpy(array) for array in convolution(shape))
        self._kind = workload.kind
        self._mask = _MASKS.get(workload.kind)
        self._stride, self._padding = list(shape.strides), [shape.ph, shape.ph]
        kept = LAYOUTS[layout]
        self._x, self._grad_y = (array.permute(0, 3, 1, 2).contiguous(memory_format=kept) for array in (x, grad_y))
        self._filters = filters.permute(3, 2, 0, 1).contiguous(memory_format=kept)

    def run(self) -> None:
        with torch.inference_mode():
            self._result = self._forward() if self._mask is None else self._backward()

    def _forward(self) -> torch.Tensor:
        return F.conv2d(self._x, self._filters, None, self._stride, self._padding)

    def _backward(self) -> torch.Tensor:
        geometry = (None, self._stride, self._padding, [1, 1], False, [0, 0], 1)
        backward = torch.ops.aten.convolution_backward
        found = backward(self._grad_y, self._x, self._filters, *geometry, self._mask)
        return found[0] if self._kind == "conv-input" else found[1]

    def outcome(self) -> dict[str, Array]:
        order = (2, 3, 1, 0) if self._kind == "conv-filter" else (0, 2, 3, 1)
        return {"result": self._result.permute(order).numpy()}
