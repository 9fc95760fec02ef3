"""Compiles every kernel into the cache, by using each one once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcnn import backends, blog, layers, losses, models, optimizers, recipes, utils
from fastcnn.backends.numba import jit

#: Image size and classes of the recipes, in case a kernel knows them when it is compiled.
IMAGE, CLASSES = (28, 28), 10
#: Batch sizes of the recipes that take one image a step; the others run at their own.
BATCH_SIZES = (1, 32)
SAMPLES = 256


def warm_up(on_kernel: Callable[[str], None] | None = None) -> jit.Compilation:
    """Run every recipe, every operation and the tutorial's classes on a few random images.

    Args:
        on_kernel: called with the name of each kernel that has to be compiled, when that begins.

    Returns:
        The kernels that had to be compiled, and the seconds it took; none where the cache held them all.
    """
    with jit.on_compile(on_kernel or (lambda name: None)), jit.compilation() as compiled:
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 256, (SAMPLES, *IMAGE), dtype=np.uint8)
        labels = rng.integers(0, CLASSES, SAMPLES)
        labels[0] = CLASSES - 1
        for recipe in recipes.RECIPES.values():
            for images in (pixels, pixels.astype(np.float32)):
                for batch_size in BATCH_SIZES if recipe.batch_size == 1 else (recipe.batch_size,):
                    _run_recipe(recipe, images, labels, batch_size)
        _run_operations(rng)
        _run_other_layers(pixels, labels)
        _run_tutorial(pixels[0])
    return compiled


def _run_recipe(recipe: recipes.Recipe, images: NDArray[Any], labels: NDArray[Any], batch_size: int) -> None:
    data = (images, labels)
    model = recipes.train(recipe, (data, data), epochs=1, batch_size=batch_size, learning_rate=1e-4, seed=0).model
    model.predict(images, verbose=0)
    model.predict(images[:1], verbose=0)


def _run_operations(rng: np.random.Generator) -> None:
    """The operations in the order of a network: what one returns is what the next one takes."""
    ops = backends.get("numba")

    def normal(*shape: int) -> NDArray[np.float32]:
        return rng.standard_normal(shape, dtype=np.float32)

    x, filters = normal(2, 10, 10, 3), normal(3, 3, 3, 4)
    ops.conv2d_forward(x, filters, None)
    y = ops.conv2d_forward(x, filters, normal(4))
    ops.maxpool2d_forward(y, (2, 2), "first")
    pooled, winners = ops.maxpool2d_forward(y, (2, 2), "all")
    flat, weights = pooled.reshape(2, -1), normal(64, CLASSES)
    ops.dense_forward(flat, weights, None)
    logits = ops.dense_forward(flat, weights, normal(CLASSES))
    ops.softmax(logits)
    _, _, grad_logits = ops.softmax_cross_entropy(logits, np.zeros(2, np.int64))
    grad_flat, _, _ = ops.dense_backward(grad_logits, flat, weights)
    grad_y = ops.maxpool2d_backward(grad_flat.reshape(pooled.shape), winners, y.shape, (2, 2))
    ops.conv2d_backward(grad_y, x, filters)
    x, filters = normal(8, 10, 10, 16), normal(3, 3, 16, 16)  # as many channels and filters as Winograd's needs
    ops.conv2d_backward(ops.conv2d_forward(x, filters, None), x, filters)


def _run_other_layers(pixels: NDArray[np.uint8], labels: NDArray[Any]) -> None:
    """A step of a network with the layers that no recipe has, with each optimizer."""
    for optimizer in (optimizers.SGD(momentum=0.9), optimizers.Adam(), optimizers.RMSprop(), optimizers.Adadelta()):
        model = models.Sequential(
            [
                layers.Input((*IMAGE, 1)),
                layers.ZeroPadding2D(),
                layers.Conv2D(3, 3, strides=2),
                layers.BatchNormalization(),
                layers.Activation("gelu"),
                layers.AveragePooling2D(),
                layers.MaxPooling2D(3),
                layers.Flatten(),
                layers.Dense(CLASSES, activation="softmax"),
                layers.Dense(CLASSES, activation="softmax"),
            ]
        )
        model.compile(optimizer, losses.CategoricalCrossentropy(label_smoothing=0.1))
        model.fit(pixels, utils.to_categorical(labels, CLASSES), verbose=0)
        model.predict(pixels, verbose=0)


def _run_tutorial(pixels: NDArray[np.uint8]) -> None:
    """One step of the tutorial's script. Its classes draw from numpy's global generator, which is put back."""
    state = np.random.get_state()  # noqa: NPY002
    try:
        conv, pool, softmax = blog.Conv3x3(8), blog.MaxPool2(), blog.Softmax(13 * 13 * 8, CLASSES)
    finally:
        np.random.set_state(state)  # noqa: NPY002
    probabilities = softmax.forward(pool.forward(conv.forward(pixels / 255 - 0.5)))
    gradient = np.zeros(CLASSES)
    gradient[0] = -1 / probabilities[0]
    conv.backprop(pool.backprop(softmax.backprop(gradient, 0.005)), 0.005)
