"""Optimizers and schedules against Keras' formulas, written out number by number."""

from __future__ import annotations

import importlib
import math

import numpy as np
import pytest

from fastcnn import optimizers
from fastcnn.errors import ArgumentError
from fastcnn.layers.base import Parameter
from fastcnn.optimizers import SGD, Adadelta, Adam, AdamW, RMSprop, base, schedules

DRAWS = np.random.default_rng(3)
START = DRAWS.normal(size=5)
GRADIENTS = DRAWS.normal(size=(4, 5))


def adam(w, gradients, rate, b1=0.9, b2=0.999, eps=1e-7, amsgrad=False, decay=0.0):
    m = v = top = 0.0
    for t, g in enumerate(gradients, 1):
        w -= w * decay * rate
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        top = max(top, v)
        alpha = rate * math.sqrt(1 - b2**t) / (1 - b1**t)
        w -= alpha * m / (math.sqrt(top if amsgrad else v) + eps)
    return w


def rmsprop(w, gradients, rate, rho=0.9, momentum=0.0, eps=1e-7, centered=False):
    v = m = a = 0.0
    for g in gradients:
        v, a = rho * v + (1 - rho) * g * g, rho * a + (1 - rho) * g
        m = momentum * m + rate * g / math.sqrt(v - (a * a if centered else 0.0) + eps)
        w -= m
    return w


def adadelta(w, gradients, rate, rho=0.95, eps=1e-7):
    a = u = 0.0
    for g in gradients:
        a = rho * a + (1 - rho) * g * g
        d = math.sqrt(u + eps) / math.sqrt(a + eps) * g
        u = rho * u + (1 - rho) * d * d
        w -= rate * d
    return w


def sgd(w, gradients, rate, decay=0.0):
    for g in gradients:
        w -= w * decay * rate
        w -= rate * g
    return w


def run(optimizer, gradients=GRADIENTS, start=START):
    weight = Parameter("w", start.copy())
    for gradient in gradients:
        optimizer.apply([weight], [gradient])
    assert optimizer.iterations == len(gradients)
    return weight.value


@pytest.mark.parametrize(
    ("optimizer", "formula", "options"),
    [
        (Adam(), adam, {"rate": 0.001}),
        (Adam(0.1, 0.7, 0.9, 1e-3), adam, {"rate": 0.1, "b1": 0.7, "b2": 0.9, "eps": 1e-3}),
        (Adam(0.1, beta_2=0.5, amsgrad=True), adam, {"rate": 0.1, "b2": 0.5, "amsgrad": True}),
        (AdamW(0.1), adam, {"rate": 0.1, "decay": 0.004}),
        (Adam(0.1, weight_decay=0.3), adam, {"rate": 0.1, "decay": 0.3}),
        (RMSprop(), rmsprop, {"rate": 0.001}),
        (RMSprop(0.1, 0.8, 0.5, 0.1), rmsprop, {"rate": 0.1, "rho": 0.8, "momentum": 0.5, "eps": 0.1}),
        (RMSprop(0.1, centered=True), rmsprop, {"rate": 0.1, "centered": True}),
        (Adadelta(), adadelta, {"rate": 0.001}),
        (Adadelta(1.0, 0.8, 0.01), adadelta, {"rate": 1.0, "rho": 0.8, "eps": 0.01}),
        (SGD(0.1, weight_decay=0.3), sgd, {"rate": 0.1, "decay": 0.3}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, optimizers.Optimizer) else "",
)
def test_steps_are_keras_formulas(optimizer, formula, options):
    expected = [formula(w, GRADIENTS[:, i], **options) for i, w in enumerate(START)]
    np.testing.assert_allclose(run(optimizer), expected, rtol=1e-12)
    assert np.abs(START - expected).min() > 1e-9


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_names_configurations_and_float32(name):
    optimizer = optimizers.get(name.upper() if name == "sgd" else name)
    assert type(optimizer) is optimizers.OPTIMIZERS[name]
    averaging = {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 2}
    clipping, falling = {"clipvalue": 0.5, "weight_decay": 0.1}, {"learning_rate": schedules.CosineDecay(0.5, 10)}
    for changes in ({}, clipping, falling, averaging):
        one = optimizers.OPTIMIZERS[name](**changes)
        twin = optimizers.get(optimizers.serialize(one))
        assert twin.get_config() == one.get_config()
        np.testing.assert_array_equal(run(twin), run(one))
    assert run(optimizers.get(name), GRADIENTS.astype(np.float32), START.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("compiled", [False, True])
def test_averages_of_the_weights(compiled):
    """The weight after the first step, then a share of that and one of each further weight."""
    kernels = importlib.import_module("fastcnn.backends.numba.updates") if compiled else None
    kind, near = (np.float32, 1e-6) if compiled else (np.float64, 1e-13)
    optimizer, weight = SGD(0.1, momentum=0.5, use_ema=True, ema_momentum=0.8), Parameter("w", START.astype(kind))
    twin, other = SGD(0.1, momentum=0.5), Parameter("w", START.astype(kind))
    expected = None
    for gradient in GRADIENTS.astype(kind):
        optimizer.apply([weight], [gradient], kernels)
        twin.apply([other], [gradient], kernels)
        np.testing.assert_array_equal(weight.value, other.value)
        expected = other.value.copy() if expected is None else 0.8 * expected + 0.2 * other.value
    np.testing.assert_allclose(optimizer.get_state(weight)[-1], expected, rtol=near)
    version = weight.version
    optimizer.finalize_variable_values()
    np.testing.assert_array_equal(weight.value, optimizer.get_state(weight)[-1])
    assert weight.version > version
    assert np.abs(weight.value - other.value).min() > 1e-3
    twin.finalize_variable_values()
    assert twin.get_state(other)[0].shape == START.shape  # one array only: nothing is kept, nothing overwritten


def test_averages_replace_the_weights_again_and_again():
    optimizer, weight = (
        SGD(0.1, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=3),
        Parameter("w", START.copy()),
    )
    for step, gradient in enumerate(GRADIENTS, 1):
        optimizer.apply([weight], [gradient])
        assert np.array_equal(weight.value, optimizer.get_state(weight)[0]) == (step in (1, 3))


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_large_weights_are_updated_part_by_part_alike(name, monkeypatch):
    start, gradients = DRAWS.normal(size=(13, 9)), DRAWS.normal(size=(3, 13, 9))
    whole = run(optimizers.get(name), gradients, start)
    monkeypatch.setattr(base, "BLOCK", 10)
    np.testing.assert_array_equal(run(optimizers.get(name), gradients, start), whole)


def test_each_weight_has_a_state_of_its_own():
    one, two = Parameter("a", START.copy()), Parameter("b", START.copy())
    optimizer = Adam(0.1)
    for gradient in GRADIENTS:
        optimizer.apply([one, two], [gradient, 3 * gradient + 1])
    np.testing.assert_array_equal(one.value, run(Adam(0.1)))
    np.testing.assert_array_equal(two.value, run(Adam(0.1), 3 * GRADIENTS + 1))


def test_clipping():
    gradients = [np.array([3.0, -4.0]), np.array([0.3, 0.4])]

    def step(**limit):
        weights = [Parameter("w", np.zeros(2)) for _ in gradients]
        SGD(1.0, **limit).apply(weights, gradients)
        return [w.value.tolist() for w in weights]

    assert step(clipvalue=1.0) == [[-1.0, 1.0], [-0.3, -0.4]]
    np.testing.assert_allclose(step(clipnorm=1.0), [[-0.6, 0.8], [-0.3, -0.4]])
    norm = math.sqrt(25.25)
    np.testing.assert_allclose(step(global_clipnorm=1.0), [[-3 / norm, 4 / norm], [-0.3 / norm, -0.4 / norm]])
    np.testing.assert_allclose(step(global_clipnorm=10.0), [[-3.0, 4.0], [-0.3, -0.4]])
    assert gradients[0].tolist() == [3.0, -4.0]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (schedules.ExponentialDecay(0.8, 4, 0.25), {0: 0.8, 2: 0.4, 4: 0.2, 8: 0.05}),
        (schedules.ExponentialDecay(0.8, 4, 0.25, staircase=True), {0: 0.8, 3: 0.8, 4: 0.2, 7: 0.2}),
        (schedules.CosineDecay(0.8, 10), {0: 0.8, 5: 0.4, 10: 0.0, 99: 0.0}),
        (schedules.CosineDecay(0.8, 10, alpha=0.5), {0: 0.8, 5: 0.6, 10: 0.4, 99: 0.4}),
        (
            schedules.CosineDecay(0.0, 10, warmup_target=0.8, warmup_steps=4),
            {0: 0.0, 1: 0.2, 4: 0.8, 9: 0.4, 14: 0.0},
        ),
        (schedules.PiecewiseConstantDecay([2, 5], [1.0, 0.5, 0.1]), {0: 1.0, 2: 1.0, 3: 0.5, 5: 0.5, 6: 0.1}),
        (schedules.OneCycle(1.0, 101, 31 / 101, 10.0, 100.0), {0: 0.1, 15: 0.55, 30: 1.0, 65: 0.5005, 100: 0.001}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_schedules(schedule, expected):
    assert {step: pytest.approx(schedule(step), abs=1e-12) for step in expected} == expected
    twin = schedules.get(schedules.serialize(schedule))
    assert [twin(step) for step in range(20)] == [schedule(step) for step in range(20)]


def test_a_schedule_is_followed_step_by_step_and_cannot_be_set():
    optimizer = SGD(schedules.PiecewiseConstantDecay([0, 1], [1.0, 0.5, 0.25]))
    value = run(optimizer, np.ones((4, 1)), np.zeros(1))
    assert value.tolist() == [-2.0]
    assert not optimizer.plain
    with pytest.raises(ArgumentError, match="PiecewiseConstantDecay"):
        optimizer.learning_rate = 0.1
    assert optimizers.schedules is schedules


def test_only_plain_sgd_is_plain():
    assert SGD(0.1).plain
    for options in (
        {"momentum": 0.5},
        {"clipnorm": 1.0},
        {"weight_decay": 0.1},
        {"global_clipnorm": 2.0},
        {"use_ema": True},
    ):
        assert not SGD(0.1, **options).plain


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: schedules.ExponentialDecay(0, 1, 0.5), ["initial_learning_rate=0"]),
        (lambda: schedules.CosineDecay(0.1, 0), ["decay_steps=0"]),
        (lambda: schedules.PiecewiseConstantDecay([1], [0.1]), ["1 values for 1 boundaries", "one value more"]),
        (lambda: schedules.PiecewiseConstantDecay([5, 2], [1, 1, 1]), ["rising"]),
        (lambda: schedules.OneCycle(0.1, 10, 1.0), ["warmup_fraction=1.0"]),
        (lambda: schedules.get({"class": "Evil"}), ["no schedule", "'CosineDecay'"]),
    ],
)
def test_bad_schedules_say_so(make, words):
    with pytest.raises(ArgumentError) as caught:
        make()
    assert all(word in str(caught.value) for word in words)
