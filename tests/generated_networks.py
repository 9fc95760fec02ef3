"""Random networks of every kind of layer, with weights, data and a loss: the same for a seed, everywhere.

Weights and data are exact in float32. The blocks that networks are put together from include convolution, 2x2
max-pooling and ReLU in both orders, and everything else that an engine may want to run in one go.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastcnn import losses
from fastcnn.layers import (
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Layer,
    LeakyReLU,
    MaxPooling2D,
    ReLU,
    Rescaling,
    Reshape,
    Softmax,
    ZeroPadding2D,
)
from fastcnn.models import Sequential
from fastcnn.optimizers import SGD

ACTIVATIONS = (None, "relu", "sigmoid", "tanh", "gelu", "softmax")


class Problem(NamedTuple):
    """A network's layers, not built, its loss, and one batch."""

    layers: list[Layer]
    loss: losses.Loss
    x: np.ndarray
    y: np.ndarray


def problem(seed: int, large: bool = False) -> Problem:
    """Return the network and the batch of that seed; two calls share nothing.

    Args:
        seed: of everything.
        large: more pixels, filters and samples, as kernels' main loops need, and fewer layers, since errors
            grow with both.
    """
    rng = np.random.default_rng([seed, large])
    samples = int(rng.integers(9, 40) if large else rng.integers(2, 5))
    shape = (*rng.integers(*((10, 24) if large else (3, 10)), size=2), rng.integers(1, 4))
    if large and seed % 4 == 0:  # as many as behind a first convolution
        shape = (*shape[:2], 16 + seed % 3)
    layers = _images(rng, tuple(int(size) for size in shape), large)
    layers += _vectors(rng, large)
    classes = int(rng.integers(2, 12))
    layers, loss, y = _head(rng, layers, classes, samples)
    x = rng.normal(size=(samples, *shape)).astype(np.float32)
    return Problem(layers, loss, x, y)


def _images(rng: np.random.Generator, shape: tuple[int, ...], large: bool) -> list[Layer]:
    layers: list[Layer] = [Rescaling(float(rng.choice([0.5, 0.3])), -0.1)] if rng.random() < 0.2 else []
    for _ in range(1 if large else rng.integers(1, 4)):
        for layer in _block(rng, shape, large):
            layers.append(layer)
            shape = layer.compute_output_shape(shape)
    end = rng.integers(5)
    if end == 0:
        layers.append(GlobalAveragePooling2D())
    elif end == 1:
        layers.append(GlobalMaxPooling2D())
    elif end == 2:
        layers += [GlobalMaxPooling2D(keepdims=True), Reshape((-1,))]
    else:
        layers.append(Flatten())
    return layers


def _block(rng: np.random.Generator, shape: tuple[int, ...], large: bool) -> list[Layer]:
    """A few layers that take images of such a shape."""
    least = min(shape[:2])
    kind = int(rng.integers(9))
    if kind < 4 and least >= 4:  # what engines fuse
        conv = _conv(rng, shape, large, activation="relu" if kind == 0 else None)
        pool = MaxPooling2D(2, ties=str(rng.choice(["first", "all"])))
        if min(conv.compute_output_shape(shape)[:2]) >= 2:
            return [[conv, pool], [conv, pool, ReLU()], [conv, Activation("relu"), pool], [conv, pool, LeakyReLU(0.1)]][
                kind
            ]
    if kind == 4:
        return [_conv(rng, shape, large, use_bias=False), BatchNormalization(), ReLU()]
    if kind == 5:
        pool_size, strides = (tuple(int(n) for n in rng.integers(1, 4, size=2)) for _ in range(2))
        padding = "same" if max(pool_size) > least or rng.random() < 0.5 else "valid"
        kinds: list[type[Layer]] = [MaxPooling2D, AveragePooling2D]
        return [kinds[rng.integers(2)](pool_size, strides, padding)]  # type: ignore[call-arg]
    if kind == 6:
        sides = rng.integers(0, 3, size=(2, 2)).tolist()
        return [ZeroPadding2D(sides), _conv(rng, tuple(np.add(shape, (*np.sum(sides, axis=1), 0))), large)]
    if kind == 7:
        return [_normalization(rng), _dropout(rng), Reshape((shape[1], shape[0], shape[2]))]
    return [_conv(rng, shape, large), LeakyReLU(0.25)] if rng.random() < 0.3 else [_conv(rng, shape, large)]


def _conv(rng: np.random.Generator, shape: tuple[int, ...], large: bool, **options: Any) -> Conv2D:
    size = tuple(int(n) for n in rng.integers(1, 6, size=2)) if rng.random() < 0.4 else (3, 3)
    strides = tuple(int(n) for n in rng.integers(1, 4, size=2)) if rng.random() < 0.3 else (1, 1)
    fits = size[0] <= shape[0] and size[1] <= shape[1]
    padding = "valid" if fits and rng.random() < 0.6 else "same"
    name = ACTIVATIONS[rng.integers(len(ACTIVATIONS))]
    options = {"activation": name, "use_bias": bool(rng.random() < 0.8), **options}
    filters = rng.choice([4, 8, 12, 16, 24, 32, 37]) if large else rng.integers(1, 6)
    return Conv2D(int(filters), size, strides, padding, **options)


def _normalization(rng: np.random.Generator) -> BatchNormalization:
    center, scale, trainable = (bool(flag) for flag in rng.random(3) < 0.8)
    return BatchNormalization(epsilon=0.01, center=center, scale=scale, trainable=trainable)


def _dropout(rng: np.random.Generator) -> Dropout:
    return Dropout(float(rng.choice([0.25, 0.3, 0.5])), seed=int(rng.integers(1000)))


def _vectors(rng: np.random.Generator, large: bool) -> list[Layer]:
    layers: list[Layer] = []
    for _ in range(rng.integers(2 if large else 3)):
        units = int(rng.integers(30, 140) if large else rng.integers(2, 20))
        name = ACTIVATIONS[rng.integers(len(ACTIVATIONS))]
        layers.append(Dense(units, name, use_bias=bool(rng.random() < 0.8)))
        more: list[list[Layer]] = [[], [_dropout(rng)], [_normalization(rng)], [ReLU(negative_slope=0.2)]]
        layers += more[rng.integers(4)]
    return layers


def _head(
    rng: np.random.Generator, layers: list[Layer], classes: int, samples: int
) -> tuple[list[Layer], losses.Loss, np.ndarray]:
    labels = rng.integers(classes, size=samples)
    kind = rng.integers(5)
    if kind == 0:
        loss, y = losses.SparseCategoricalCrossentropy(from_logits=True), labels
        return [*layers, Dense(classes)], loss, y
    if kind == 1:
        name = ("sigmoid", None, "softmax")[rng.integers(3)]
        y = rng.random((samples, classes)).astype(np.float32)
        return [*layers, Dense(classes, name)], losses.MeanSquaredError(), y
    ends: list[Layer] = [Dense(classes, "softmax")] if rng.random() < 0.5 else [Dense(classes), Softmax()]
    if kind == 2:
        return [*layers, *ends], losses.SparseCategoricalCrossentropy(), labels
    smoothing = 0.1 if kind == 3 else 0.0
    y = np.eye(classes)[labels] if kind == 3 else rng.dirichlet(np.ones(classes), samples).astype(np.float32)
    return [*layers, *ends], losses.CategoricalCrossentropy(label_smoothing=smoothing), y


def built(problem: Problem, backend: str, dtype: str, learning_rate: float = 1.0) -> Sequential:
    """Return the network on a backend, compiled, with weights that depend on its shapes alone."""
    model = Sequential(problem.layers, backend=backend, dtype=dtype, seed=0)
    model.compile(SGD(learning_rate), problem.loss)
    model.build((None, *problem.x.shape[1:]))
    rng = np.random.default_rng(3)
    for layer in model.layers:
        weights = [_drawn(rng, weight.shape) for weight in layer.get_weights()]
        if isinstance(layer, BatchNormalization):
            weights[-1] = np.abs(weights[-1]) + np.float32(0.5)
        layer.set_weights(weights)
    return model


def _drawn(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Kernels that keep numbers about as large as they are; vectors away from zero on average."""
    if len(shape) == 1:
        return rng.uniform(-0.5, 1.5, size=shape).astype(np.float32)
    return (rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))).astype(np.float32)
