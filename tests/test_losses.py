"""Losses, weights of samples and classes, and single steps: what training minimises, checked with plain numpy."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn import losses, stages, utils
from fastcnn.errors import ArgumentError, DivergedError
from fastcnn.layers import Conv2D, Dense, Flatten, MaxPooling2D
from fastcnn.models import Sequential
from fastcnn.optimizers import SGD

DRAWS = np.random.default_rng(2)
X = DRAWS.normal(size=(9, 6))
Y = DRAWS.integers(0, 3, 9)
SOFT = DRAWS.dirichlet(np.ones(3), 9)
WEIGHTS = DRAWS.random(9)


def model(loss, activation="softmax", units=3, metrics=("accuracy",), **options):
    made = Sequential([Dense(units, activation, input_dim=6)], backend="im2col", dtype="float64", seed=4, **options)
    made.compile(SGD(0.3), loss, list(metrics))
    return made


def test_soft_labels_and_smoothing_are_what_they_say():
    probabilities = model("mse").predict(X)
    for smoothing, y in ((0.0, SOFT), (0.3, SOFT), (0.3, utils.to_categorical(Y, 3))):
        loss = losses.CategoricalCrossentropy(label_smoothing=smoothing)
        targets = y * (1 - smoothing) + smoothing / 3
        expected = -(targets * np.log(probabilities)).sum(axis=1).mean()
        found = model(loss).evaluate(X, y, verbose=0)
        assert found[0] == pytest.approx(expected, rel=1e-6)
        assert found[1] == (probabilities.argmax(axis=1) == y.argmax(axis=1)).mean()


def test_logits_give_the_same_loss_as_softmax():
    for made, y in ((losses.CategoricalCrossentropy, SOFT), (losses.SparseCategoricalCrossentropy, Y)):
        soft, linear = model(made()), model(made(from_logits=True), None)
        assert soft.evaluate(X, y, verbose=0) == linear.evaluate(X, y, verbose=0)
        one, other = soft.gradients(X, y), linear.gradients(X, y)
        np.testing.assert_array_equal(one.input, other.input)


@pytest.mark.parametrize("activation", [None, "softmax", "sigmoid"])
def test_mean_squared_error(activation):
    made = model("mse", activation)
    expected = ((made.predict(X) - SOFT) ** 2).mean()
    assert made.evaluate(X, SOFT, verbose=0)[0] == pytest.approx(expected)
    before = made.gradients(X, SOFT).loss
    made.fit(X, SOFT, epochs=5, verbose=0)
    assert made.gradients(X, SOFT).loss < before
    single = model("MeanSquaredError", None, 1, ())
    flat = single.evaluate(X, SOFT[:, 0], verbose=0)
    assert flat == single.evaluate(X, SOFT[:, :1], verbose=0)


def test_weights_scale_each_samples_loss_and_leave_the_accuracy():
    made = model("sparse_categorical_crossentropy")
    each = -np.log(made.predict(X)[np.arange(9), Y])
    plain = made.evaluate(X, Y, verbose=0)
    weighted = made.evaluate(X, Y, verbose=0, sample_weight=WEIGHTS)
    assert weighted == [pytest.approx((each * WEIGHTS).mean()), plain[1]]
    first = model("sparse_categorical_crossentropy")
    history = first.fit(X, Y, batch_size=9, verbose=0, sample_weight=WEIGHTS, validation_data=(X, Y, WEIGHTS))
    assert history.history["loss"] == [pytest.approx((each * WEIGHTS).mean())]
    gradients = [made.gradients(X[i : i + 1], Y[i : i + 1]).weights for i in range(9)]
    for start, end, *own in zip(made.get_weights(), first.get_weights(), *gradients, strict=True):
        mean = sum(w * g for w, g in zip(WEIGHTS, own, strict=True)) / 9
        np.testing.assert_allclose(end, start - 0.3 * mean, rtol=1e-9)
    assert history.history["val_loss"] == [first.evaluate(X, Y, verbose=0, sample_weight=WEIGHTS)[0]]


def test_class_weights_are_sample_weights_by_class():
    by_class = {0: 2.0, 2: 0.5}
    per_sample = np.array([by_class.get(int(label), 1.0) for label in Y])
    results = []
    for loss, y in (("sparse_categorical_crossentropy", Y), ("categorical_crossentropy", np.eye(3)[Y])):
        for options in (
            {"class_weight": by_class, "sample_weight": WEIGHTS},
            {"sample_weight": per_sample * WEIGHTS},
        ):
            made = model(loss)
            made.fit(X, y, batch_size=4, epochs=2, verbose=0, **options)
            results.append(made.get_weights()[0])
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], rtol=1e-12)
    with pytest.raises(ArgumentError, match="class_weight"):
        model("mse", None).fit(X, SOFT, class_weight={-1: 2.0})


def test_weights_are_split_with_their_samples():
    split, given = (model("sparse_categorical_crossentropy") for _ in range(2))
    first = split.fit(X, Y, verbose=0, validation_split=1 / 3, sample_weight=WEIGHTS)
    second = given.fit(X[:6], Y[:6], verbose=0, sample_weight=WEIGHTS[:6], validation_data=(X[6:], Y[6:], WEIGHTS[6:]))
    assert first.history == second.history


def test_single_steps_are_those_of_fit():
    stepped, fitted = (model("sparse_categorical_crossentropy") for _ in range(2))
    figures = [stepped.train_on_batch(X[part], Y[part]) for part in (slice(0, 5), slice(5, 9))]
    history = fitted.fit(X, Y, batch_size=5, shuffle=False, verbose=0).history
    for mine, other in zip(stepped.get_weights(), fitted.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)
    assert history["loss"] == [pytest.approx((5 * figures[0][0] + 4 * figures[1][0]) / 9)]
    assert set(stepped.train_on_batch(X, Y, WEIGHTS, {1: 2.0}, return_dict=True)) == {"loss", "accuracy"}
    assert stepped.optimizer.iterations == 3
    before = stepped.get_weights()
    with pytest.raises(DivergedError, match=r"x\[0\] holds nan"):
        stepped.train_on_batch(X * np.nan, Y)
    np.testing.assert_array_equal(stepped.get_weights()[0], before[0])


def test_what_the_fused_plan_cannot_compute_goes_through_the_stages():
    images = DRAWS.random((8, 8, 8, 1)).astype(np.float32)
    labels = np.arange(8) % 3

    def tutorial(backend, loss):
        layers = [Conv2D(4, 3), MaxPooling2D(2), Flatten(), Dense(3, "softmax")]
        made = Sequential(layers, backend=backend, seed=1)
        made.compile("sgd", loss)
        return made

    smooth = losses.CategoricalCrossentropy(label_smoothing=0.1)
    for loss, y, options in (
        ("mse", np.eye(3)[labels], {}),
        (smooth, np.eye(3)[labels], {}),
        ("sparse_categorical_crossentropy", labels, {"class_weight": {0: 3.0}}),
        ("sparse_categorical_crossentropy", labels, {"sample_weight": np.arange(8.0)}),
    ):
        found = []
        for backend in ("numba", "im2col"):
            made = tutorial(backend, loss)
            made.fit(images, y, verbose=0, **options)
            found.append([made.evaluate(images, y, verbose=0, sample_weight=options.get("sample_weight"))])
            found[-1] += [w.ravel()[0] for w in made.get_weights()]
        np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-7)
    made = tutorial("numba", "sparse_categorical_crossentropy")
    made.build((None, 8, 8, 1))
    assert isinstance(made._make_plan(made.optimizer), stages.FusedPlan)
    made.compile("sgd", "mse")
    assert isinstance(made._make_plan(made.optimizer), stages.StagePlan)
