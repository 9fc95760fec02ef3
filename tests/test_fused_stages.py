"""Neighbouring layers as one stage: which are fused, that nothing is compiled anew, and the same results."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from fastcnn import layers, models, optimizers
from fastcnn.backends.numba.jit import compilation
from fastcnn.errors import DivergedError
from fastcnn.stages import plan

Layers = list[layers.Layer]


def built(stack: Layers, shape: tuple[int, ...], seed: int = 0) -> models.Sequential:
    return models.Sequential([layers.Input(shape), *stack], seed=seed)


def names(stack: Layers, shape: tuple[int, ...], backend: str = "numba", fused: bool = True) -> list[str]:
    model = models.Sequential([layers.Input(shape), *stack], backend=backend)
    return [type(stage).__name__ for stage in plan(model.layers, backend, model.dtype, fused=fused).stages]


@pytest.mark.parametrize(
    ("stack", "expected"),
    [
        ([layers.Conv2D(4, 3, activation="relu"), layers.MaxPooling2D()], ["ConvPoolStage"]),
        ([layers.Conv2D(4, 3), layers.ReLU(), layers.MaxPooling2D()], ["ConvPoolStage"]),
        ([layers.Conv2D(4, 3), layers.MaxPooling2D(), layers.Activation("relu")], ["ConvPoolStage"]),
        ([layers.Conv2D(4, 3), layers.MaxPooling2D()], ["ConvPoolStage"]),
        ([layers.Conv2D(4, 3), layers.MaxPooling2D(ties="all")], ["FusedConv2DStage", "MaxPooling2DStage"]),
        ([layers.Conv2D(4, 3, strides=2), layers.MaxPooling2D()], ["FusedConv2DStage", "MaxPooling2DStage"]),
        ([layers.Conv2D(4, 3), layers.MaxPooling2D(3)], ["FusedConv2DStage", "MaxPooling2DStage"]),
        ([layers.Conv2D(4, 3), layers.MaxPooling2D(padding="same")], ["ConvPoolStage"]),
        (
            [layers.Conv2D(4, 4), layers.MaxPooling2D(padding="same")],
            ["FusedConv2DStage", "MaxPooling2DStage"],
        ),
        (
            [layers.Conv2D(4, 3, activation="tanh"), layers.MaxPooling2D()],
            ["FusedConv2DStage", "ActivationStage", "MaxPooling2DStage"],
        ),
        ([layers.Conv2D(4, 3), layers.LeakyReLU()], ["FusedConv2DStage", "ActivationStage"]),
        ([layers.Flatten(), layers.Dense(4), layers.ReLU()], ["ReshapeStage", "FusedDenseStage"]),
    ],
)
def test_what_is_fused(stack: Layers, expected: list[str]) -> None:
    assert names(stack, (12, 12, 3)) == expected


def test_other_backends_and_unfused_models_run_layer_by_layer() -> None:
    expected = ["Conv2DStage", "ActivationStage", "MaxPooling2DStage"]

    def stack() -> Layers:
        return [layers.Conv2D(4, 3, activation="relu"), layers.MaxPooling2D()]

    assert names(stack(), (12, 12, 3), "im2col") == names(stack(), (12, 12, 3), fused=False) == expected


STACKS: dict[str, tuple[tuple[int, ...], Layers]] = {
    "pool and relu, odd sizes": ((11, 14, 3), [layers.Conv2D(9, 3, activation="relu"), layers.MaxPooling2D()]),
    "pool without relu or bias": ((10, 9, 16), [layers.Conv2D(20, (2, 3), use_bias=False), layers.MaxPooling2D()]),
    "whole vectors, same": ((8, 8, 32), [layers.Conv2D(16, 3, padding="same"), layers.MaxPooling2D(), layers.ReLU()]),
    "strides": ((9, 9, 4), [layers.Conv2D(5, 3, strides=(2, 1), activation="relu")]),
    "two of them": (
        (16, 16, 1),
        [
            layers.Conv2D(6, 5),
            layers.MaxPooling2D(),
            layers.ReLU(),
            layers.Conv2D(7, 3, activation="relu", padding="same"),
        ],
    ),
    "one pixel": ((2, 2, 1), [layers.Conv2D(1, 1), layers.MaxPooling2D()]),
}


@pytest.mark.parametrize("case", STACKS)
def test_fused_and_unfused_agree(case: str) -> None:
    """Both are held against the reference elsewhere; here every gradient is compared where float32 alone differs."""
    shape, stack = STACKS[case]
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((37, *shape)).astype(np.float32), rng.integers(0, 3, 37)
    model = built([*stack, layers.Flatten(), layers.Dense(8, activation="relu"), layers.Dense(3)], shape)
    found = []
    for fused in (True, False):
        model.compile("sgd", "mse", fused=fused)
        found.append(model.gradients(x, np.eye(3)[y]))
    one, other = found
    assert one.loss == pytest.approx(other.loss, rel=1e-5)
    for a, b in zip([one.input, *one.weights], [other.input, *other.weights], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max())


def convnet(filters: int, size: int, seed: int = 3) -> models.Sequential:
    model = built(
        [
            layers.Conv2D(filters, 3, activation="relu"),
            layers.Conv2D(filters + 3, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(2 * filters, activation="relu"),
            layers.Dense(4, activation="softmax"),
        ],
        (size, size + 1, 2),
        seed,
    )
    model.compile(optimizers.Adadelta(1.0), "sparse_categorical_crossentropy", ["accuracy"])
    return model


def data(size: int, count: int = 70) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    return rng.standard_normal((count, size, size + 1, 2)).astype(np.float32), rng.integers(0, 4, count)


def test_another_architecture_compiles_nothing() -> None:
    convnet(5, 9).fit(*data(9), batch_size=16, verbose=0)
    with compilation() as compiled:
        convnet(18, 12).fit(*data(12), batch_size=32, verbose=0)
        convnet(18, 12).predict(data(12)[0])
    assert compiled.kernels == []


def test_the_same_bits_on_one_thread_and_on_two() -> None:
    weights = []
    before = numba.get_num_threads()
    try:
        for threads in (1, min(2, before), min(2, before)):
            numba.set_num_threads(threads)
            model = convnet(17, 10)
            model.fit(*data(10), batch_size=32, epochs=2, verbose=0)
            weights.append(model.get_weights())
    finally:
        numba.set_num_threads(before)
    for one, two, again in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(two, again)


def test_arrays_are_allocated_once() -> None:
    model = built([layers.Conv2D(4, 3), layers.MaxPooling2D()], (9, 9, 1))
    stage = plan(model.layers, "numba", model.dtype).stages[0]
    x = np.ones((8, 9, 9, 1), np.float32)
    first = stage.forward(x, True, True)
    assert stage.forward(x, True, True) is not None
    assert np.shares_memory(first, stage.forward(x[:5], True, True))


@pytest.mark.parametrize("scaled", [True, False])
def test_images_are_read_alike_whatever_they_are_kept_in(scaled: bool) -> None:
    pixels = np.random.default_rng(4).integers(0, 256, (300, 5, 6, 2), dtype=np.uint8)
    read_only = pixels.astype(np.float32)
    read_only.flags.writeable = False
    ways = [pixels, pixels.astype(np.float32), pixels.astype(np.float64), np.asfortranarray(pixels), read_only]
    found = []
    for images, fused in [*((way, True) for way in ways), (pixels, False)]:
        stack = [layers.Rescaling(1 / 255, -0.1)] if scaled else []
        model = built([*stack, layers.Conv2D(3, 3, activation="relu"), layers.Flatten(), layers.Dense(4)], (5, 6, 2))
        model.compile("sgd", "mse", fused=fused)
        first = model.predict(images)
        model.fit(images, first + 1.0, batch_size=64, verbose=0)
        found.append([first, *model.get_weights()])
    for others in found[1:5]:
        for one, other in zip(found[0], others, strict=True):
            np.testing.assert_array_equal(one, other)
    for one, other in zip(found[0], found[5], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * np.abs(other).max())


def test_right_answers_are_counted_as_numpy_does() -> None:
    rng = np.random.default_rng(5)
    logits = rng.integers(0, 3, (500, 4)).astype(np.float32)  # the greatest is often there twice
    logits[::7, 2] = np.nan
    labels = rng.integers(0, 4, 500)
    model = built([layers.Dense(4, activation="softmax")], (3,))
    counts = [
        plan(model.layers, "numba", model.dtype, fused=fused).objective.measure(logits, labels)[2] for fused in (1, 0)
    ]
    assert counts == [np.count_nonzero(logits.argmax(axis=1) == labels)] * 2


@pytest.mark.parametrize("last", [layers.Dense(3), layers.Dense(3, activation="softmax"), layers.Conv2D(3, 1), None])
def test_what_is_returned_is_not_written_to_again(last: layers.Layer | None) -> None:
    model = built([layers.Rescaling(0.5), layers.Conv2D(4, 2, activation="relu")], (3, 3, 1))
    if last is not None:
        for layer in [layers.Flatten()] * isinstance(last, layers.Dense) + [last]:
            model.add(layer)
    x = np.random.default_rng(3).standard_normal((600, 3, 3, 1)).astype(np.float32)
    parts = [model.predict(x[start : start + 100]) for start in range(0, 600, 100)]
    np.testing.assert_array_equal(model.predict(x), np.concatenate(parts))
    model.compile("sgd", "mse")
    first = model.gradients(x[:9], np.zeros((9, *model.output_shape[1:])))
    kept = [array.copy() for array in (first.input, *first.weights)]
    model.gradients(x[9:18], np.zeros((9, *model.output_shape[1:])))
    for array, copy in zip((first.input, *first.weights), kept, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_a_pixel_that_is_no_number_is_named() -> None:
    x, y = data(10)
    x[11, 4, 4, 0] = np.nan
    with pytest.raises(DivergedError, match=r"x\[11\]"):
        convnet(5, 10).fit(x, y, shuffle=False, verbose=0)
