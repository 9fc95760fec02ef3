"""Run by PyTorch's interpreter: `torch_networks.py FOLDER` reads the networks that test_peers.py wrote there.

Every network's loss, in float64, and its gradients by autograd go back to ``results.npz``. Imports nothing of ours.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

ACTIVATIONS = {
    "linear": lambda x: x,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": functional.gelu,
    "softmax": lambda x: torch.softmax(x, dim=-1),
}


def images_first(function: Any, x: Tensor) -> Tensor:
    """Apply a function of (N, C, H, W) to (N, H, W, C)."""
    return function(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def same(x: Tensor, window: list[int], strides: list[int], padding: str, value: float) -> Tensor:
    """Pad (N, C, H, W) as TensorFlow's "same" does."""
    if padding == "valid":
        return x
    missing = [max(0, (math.ceil(n / s) - 1) * s + w - n) for n, w, s in zip(x.shape[2:], window, strides, strict=True)]
    rows, columns = missing
    sides = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
    return functional.pad(x, sides, value=value)


def average(x: Tensor, size: list[int], strides: list[int], padding: str) -> Tensor:
    """Average over the real pixels of each window."""
    sums, counts = (
        functional.avg_pool2d(same(part, size, strides, padding, 0.0), size, strides)
        for part in (x, torch.ones_like(x))
    )
    return sums / counts


def layer(kind: str, c: dict[str, Any], weights: list[Tensor], x: Tensor, training: bool, mask: Any) -> Tensor:
    """One layer without its activation."""
    if kind == "Conv2D":
        kernel, bias = weights[0].permute(3, 2, 0, 1).contiguous(), weights[1] if c["use_bias"] else None
        return images_first(
            lambda z: functional.conv2d(
                same(z, c["kernel_size"], c["strides"], c["padding"], 0.0), kernel, bias, c["strides"]
            ),
            x,
        )
    if kind == "Dense":
        return x @ weights[0] + (weights[1] if c["use_bias"] else 0.0)
    if kind == "BatchNormalization":
        *scales, mean, variance = weights
        gamma, beta = scales[0] if c["scale"] else None, scales[-1] if c["center"] else None
        if training and c["trainable"]:
            y = functional.batch_norm(x.movedim(-1, 1), None, None, gamma, beta, training=True, eps=c["epsilon"])
            return y.movedim(1, -1)
        y = (x - mean) / torch.sqrt(variance + c["epsilon"])
        return y * (1.0 if gamma is None else gamma) + (0.0 if beta is None else beta)
    if kind == "MaxPooling2D":
        size, strides = c["pool_size"], c["strides"]
        return images_first(
            lambda z: functional.max_pool2d(same(z, size, strides, c["padding"], -math.inf), size, strides), x
        )
    if kind == "AveragePooling2D":
        return images_first(lambda z: average(z, c["pool_size"], c["strides"], c["padding"]), x)
    if kind in ("GlobalMaxPooling2D", "GlobalAveragePooling2D"):
        pool = functional.max_pool2d if "Max" in kind else functional.avg_pool2d
        y = images_first(lambda z: pool(z, z.shape[2:]), x)
        return y if c["keepdims"] else y.reshape(len(x), -1)
    if kind == "ZeroPadding2D":
        (above, below), (left, right) = c["padding"]
        return functional.pad(x, (0, 0, left, right, above, below))
    if kind == "Rescaling":
        return x * c["scale"] + c["offset"]
    if kind == "Dropout":
        return x * mask if training else x
    if kind in ("ReLU", "LeakyReLU"):
        return functional.leaky_relu(x, c["negative_slope"])
    if kind == "Flatten":
        return x.reshape(len(x), -1)
    if kind == "Reshape":
        return x.reshape(len(x), *c["target_shape"])
    return torch.softmax(x, dim=-1) if kind == "Softmax" else x


def main(folder: Path) -> None:
    arrays = np.load(folder / "arrays.npz")
    results = {}
    for i, network in enumerate(json.loads((folder / "networks.json").read_text())):
        x = torch.tensor(arrays[f"{i} x"], dtype=torch.float64, requires_grad=True)
        weights = [
            torch.tensor(arrays[f"{i} weights {j}"], dtype=torch.float64, requires_grad=True)
            for j in range(network["weights"])
        ]
        z, used = x, 0
        for j, (kind, config, count) in enumerate(network["layers"]):
            mask = torch.tensor(arrays[f"{i} mask {j}"]) if f"{i} mask {j}" in arrays else None
            z = layer(kind, config, weights[used : used + count], z, network["training"], mask)
            used += count
            z = ACTIVATIONS[config.get("activation", "linear")](z)
        targets = torch.tensor(arrays[f"{i} targets"], dtype=torch.float64)
        if network["loss"] == "MeanSquaredError":
            loss = ((z - targets) ** 2).mean()
        else:
            logs = torch.log_softmax(z, dim=1) if network["from_logits"] else torch.log(z)
            loss = -(targets * logs).sum(dim=1).mean()
        loss.backward()
        results[f"{i} loss"] = loss.item()
        results[f"{i} input"] = x.grad.numpy()
        for j, weight in enumerate(weights):
            results[f"{i} weights {j}"] = np.zeros(weight.shape) if weight.grad is None else weight.grad.numpy()
    np.savez(folder / "results.npz", **results)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
