"""Generated networks on every backend: loss, gradients, outputs and one step of training within a derived bound.

The truth and the bound of every number come from `intervals.py`, which follows rounding errors through the network,
also where they might tip a relu or the winner of a pooling window. float64 has 2^-53 instead of 2^-24, and the
radius grows at least in proportion to that, so 2^-29 of it bounds float64: twice, since the truth is such a number too.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
from generated_networks import Problem, built, problem
from intervals import Interval, run

from fastcnn.layers import LAYERS, BatchNormalization, Dropout, Layer
from fastcnn.models import Sequential

SMALL, LARGE, GROUP = 220, 40, 20
PROBLEMS = [(seed, False) for seed in range(SMALL)] + [(seed, True) for seed in range(LARGE)]
GROUPS = [PROBLEMS[start : start + GROUP] for start in range(0, len(PROBLEMS), GROUP)]
#: The share of a network's arrays of gradients whose bound must be below 5% of their greatest element, for the
#: comparison to mean something. (Behind a saturated softmax or a dead relu gradients are next to nothing.)
TELLING = 0.75

FLOAT64 = 2 * 2.0**-29


@functools.cache
def truth(seed: int, large: bool, training: bool) -> tuple[list[Interval], Interval]:
    """Return the intervals of the loss, the input's and the weights' gradients; and of the outputs."""
    given = problem(seed, large)
    layers = built(given, "im2col", "float64").layers
    masks = {i: mask(layer, len(given.x)) for i, layer in enumerate(layers) if isinstance(layer, Dropout)}
    loss, weights, images, outputs = run(layers, given.loss, given.x, given.y, training, masks)
    return [loss, images, *weights], outputs


def mask(layer: Dropout, samples: int) -> np.ndarray:
    """Ask a network of nothing but such a layer which elements it keeps at its first batch; those are divided."""
    model = Sequential(
        [Dropout(layer.rate, seed=layer.seed, input_shape=layer.input_shape)], backend="im2col", dtype="float64"
    )
    model.compile("sgd", "mse")
    assert layer.input_shape is not None
    shape = (samples, *layer.input_shape)
    kept = model.gradients(np.ones(shape), np.zeros(shape), training=True).input != 0
    return kept / (1 - layer.rate)


def check(actual: np.ndarray, expected: Interval, unit: float, what: object) -> None:
    assert actual.shape == expected.value.shape, f"{what}: shape {actual.shape}, not {expected.value.shape}"
    error, bound = np.abs(actual - expected.value), unit * expected.radius
    outside = ~(error <= bound)
    if outside.any():
        at = tuple(int(i) for i in np.argwhere(outside)[0])
        raise AssertionError(
            f"{what}: element {at} is {actual[at]!r}, not {expected.value[at]!r}: off by {error[at]:.3g}, "
            f"may be {bound[at]:.3g} ({outside.sum()} of {outside.size} are outside)"
        )


def described(given: Problem) -> str:
    return ", ".join(map(repr, given.layers))


@pytest.mark.parametrize("group", range(len(GROUPS)))
@pytest.mark.parametrize(
    ("backend", "dtype", "unit"),
    [
        ("reference", "float64", FLOAT64),
        ("im2col", "float64", FLOAT64),
        ("im2col", "float32", 1),
        ("numba", "float32", 1),
    ],
)
def test_loss_and_gradients(backend: str, dtype: str, unit: float, group: int) -> None:
    for seed, large in GROUPS[group]:
        if large and backend == "reference":
            continue
        for training in (False, True):
            given = problem(seed, large)
            found = built(given, backend, dtype).gradients(given.x, given.y, training)
            expected, _ = truth(seed, large, training)
            for place, (actual, interval) in enumerate(
                zip([np.asarray(found.loss), found.input, *found.weights], expected, strict=True)
            ):
                what = ("loss", "input")[place] if place < 2 else f"weights {place - 2}"
                check(actual, interval, unit, f"{seed}, {large}, {training}, {what}, {described(given)}")


@pytest.mark.parametrize("group", range(len(GROUPS)))
@pytest.mark.parametrize("backend", ["im2col", "numba"])
def test_one_step_of_training(backend: str, group: int) -> None:
    """With learning rate 1 a step is the gradient, whatever runs it; afterwards the loss and what doesn't learn."""
    for seed, large in GROUPS[group]:
        given = problem(seed, large)
        model = built(given, backend, "float32", learning_rate=1.0)
        before = model.get_weights()
        history = model.fit(given.x, given.y, batch_size=len(given.x), epochs=1, shuffle=False, verbose=0)
        (loss, _, *gradients), _ = truth(seed, large, True)
        what = f"{seed}, {large}, {described(given)}"
        check(np.asarray(history.history["loss"][0]), loss, 1, what)
        for old, new, gradient, learns in zip(
            before, model.get_weights(), gradients, _learning(model.layers), strict=True
        ):
            if learns:
                radius = gradient.radius + 2.0**-23 * (np.abs(old) + gradient.high)
                check(new, Interval(old - gradient.value, radius), 1, what)


def _learning(layers: list[Layer]) -> list[bool]:
    """Whether each array of weights learns by gradients."""
    learns = []
    for layer in layers:
        weights = len(layer.get_weights())
        still = 2 if isinstance(layer, BatchNormalization) else 0
        learns += [layer.trainable] * (weights - still) + [False] * still
    return learns


@pytest.mark.parametrize("group", range(len(GROUPS)))
@pytest.mark.parametrize("backend", ["im2col", "numba"])
def test_predictions(backend: str, group: int) -> None:
    for seed, large in GROUPS[group]:
        given = problem(seed, large)
        outputs = built(given, backend, "float32").predict(given.x, verbose=0)
        check(outputs, truth(seed, large, False)[1], 1, f"{seed}, {large}, {described(given)}")


@pytest.mark.parametrize("large", [False, True])
def test_the_bounds_tell_something(large: bool) -> None:
    """Most are far smaller than what they bound, so that a wrong gradient could not hide."""
    telling = [
        interval.radius.max() <= 0.05 * np.abs(interval.value).max()
        for seed, is_large in PROBLEMS
        if is_large == large
        for training in (False, True)
        for interval in truth(seed, large, training)[0]
    ]
    assert np.mean(telling) >= TELLING


def test_every_layer_is_generated_many_times() -> None:
    counts = dict.fromkeys([name for name in LAYERS if not name.startswith("Random")], 0)  # those are tested apart
    for seed, large in PROBLEMS:
        for name in {type(layer).__name__ for layer in problem(seed, large).layers}:
            counts[name] += 1
    assert min(counts.values()) >= 20, counts
