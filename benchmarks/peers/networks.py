"""The deep networks that ours and all peers train: layers, initial weights, optimizers, as plain data.

Imports numpy only, because it runs in the peers' environments too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: Epsilon of both optimizers, Adadelta's decay, Adam's two: Keras' defaults, but for Adam's decays.
EPSILON, RHO, BETA_1, BETA_2 = 1e-7, 0.95, 0.7, 0.9

SIZE, CLASSES = 28, 10


@dataclass(frozen=True)
class Conv:
    """`filters` of `kernel` x `kernel` with a bias, stride 1, no padding."""

    filters: int
    kernel: int


@dataclass(frozen=True)
class Pool:
    """2x2 max-pooling."""


@dataclass(frozen=True)
class Relu:
    """max(x, 0)."""


@dataclass(frozen=True)
class Dropout:
    """In training only."""

    rate: float


@dataclass(frozen=True)
class Flatten:
    """Rows in the order (row, column, channel)."""


@dataclass(frozen=True)
class Dense:
    """A matrix product and a bias."""

    units: int


Layer = Conv | Pool | Relu | Dropout | Flatten | Dense


@dataclass(frozen=True)
class Network:
    """A network for images of 28x28x1 and ten classes, and how it is trained. The last layer gives logits.

    Attributes:
        layers: in order.
        scale, offset: the network sees ``pixel * scale + offset``.
        optimizer: "adadelta", of the learning rate `rate`; or "adam", in one cycle of the learning rate up to `rate`.
        rate: the learning rate, or its greatest.
        batch_size: the recipe's.
        epochs: the recipe's.
    """

    layers: tuple[Layer, ...]
    scale: float
    offset: float
    optimizer: Literal["adadelta", "adam"]
    rate: float
    batch_size: int
    epochs: int

    def without_dropout(self) -> Network:
        """The same without chance, so that results can be compared."""
        return replace(self, layers=tuple(layer for layer in self.layers if not isinstance(layer, Dropout)))

    def shapes(self) -> list[tuple[int, ...]]:
        """What comes into each layer, of one image, and what the last gives."""
        shape: tuple[int, ...] = (SIZE, SIZE, 1)
        found = [shape]
        for layer in self.layers:
            if isinstance(layer, Conv):
                shape = (shape[0] - layer.kernel + 1, shape[1] - layer.kernel + 1, layer.filters)
            elif isinstance(layer, Pool):
                shape = (shape[0] // 2, shape[1] // 2, shape[2])
            elif isinstance(layer, Flatten):
                shape = (math.prod(shape),)
            elif isinstance(layer, Dense):
                shape = (layer.units,)
            found.append(shape)
        return found

    def weights(self, seed: int = 0) -> list[Array]:
        """Initial weights in Keras' order and layouts, float32: kernels (kh, kw, C, F) or (inputs, units) uniform
        with Glorot's limit ``sqrt(6 / (inputs + outputs))``, biases zero."""
        rng = np.random.default_rng(seed)
        found: list[Array] = []
        for layer, shape in zip(self.layers, self.shapes(), strict=False):
            kernel: tuple[int, ...]
            if isinstance(layer, Conv):
                kernel, area = (layer.kernel, layer.kernel, shape[-1], layer.filters), layer.kernel**2
            elif isinstance(layer, Dense):
                kernel, area = (shape[-1], layer.units), 1
            else:
                continue
            limit = math.sqrt(6 / (area * (kernel[-2] + kernel[-1])))
            found += [rng.uniform(-limit, limit, kernel).astype(np.float32), np.zeros(kernel[-1], np.float32)]
        return found

    def scaled(self, images: Array) -> Array:
        """Pixels as the network sees them, float32."""
        return np.asarray(images, np.float32) * np.float32(self.scale) + np.float32(self.offset)

    def rates(self, steps: int) -> Array:
        """The learning rate of each of so many steps, float32.

        One cycle (Smith and Topin, "Super-convergence", 2019) with the cosines and divisors of PyTorch's OneCycleLR:
        from a 25th of the maximum up to it in 20% of the steps, then down to a 250,000th.
        """
        if self.optimizer == "adadelta":
            return np.full(steps, self.rate, np.float32)
        at, peak, end = np.arange(steps), 0.2 * steps - 1.0, max(steps - 1.0, 1.0)
        first, last = self.rate / 25, self.rate / 25e4
        rise = _cosine(first, self.rate, at / max(peak, 1e-9))
        fall = _cosine(self.rate, last, (at - peak) / max(end - peak, 1e-9))
        return np.where(at < peak, rise, fall).astype(np.float32)

    def flop(self, training: bool) -> int:
        """Of an image, a multiply-add counted as two: forward; training adds the gradients of the weights, and of
        every layer's input but the first's, all counted as if dense."""
        total, first, shapes = 0, True, self.shapes()
        for layer, before, after in zip(self.layers, shapes, shapes[1:], strict=False):
            if not isinstance(layer, (Conv, Dense)):
                continue
            area = layer.kernel**2 if isinstance(layer, Conv) else 1
            total += 2 * math.prod(after) * area * before[-1] * ((2 if first else 3) if training else 1)
            first = False
        return total


def _cosine(start: float, stop: float, share: Array) -> Array:
    return stop + (start - stop) / 2 * (1 + np.cos(np.pi * np.clip(share, 0, 1)))


NETWORKS: dict[str, Network] = {
    # Keras' own MNIST example; without the averages of the weights that the recipe adds to it.
    "keras-convnet": Network(
        (
            Conv(32, 3),
            Relu(),
            Conv(64, 3),
            Relu(),
            Pool(),
            Dropout(0.25),
            Flatten(),
            Dense(128),
            Relu(),
            Dropout(0.5),
            Dense(CLASSES),
        ),
        scale=1 / 255,
        offset=0.0,
        optimizer="adadelta",
        rate=1.0,
        batch_size=128,
        epochs=12,
    ),
    # The network that https://github.com/tuomaso/train_mnist_fast found by search.
    "small-convnet": Network(
        (Conv(24, 5), Pool(), Relu(), Conv(32, 3), Pool(), Relu(), Flatten(), Dense(256), Relu(), Dense(CLASSES)),
        scale=1 / 255 / 0.3081,
        offset=-0.1307 / 0.3081,
        optimizer="adam",
        rate=0.01,
        batch_size=256,
        epochs=1,
    ),
}
