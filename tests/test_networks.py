"""Networks of every kind of layer: what they compute and their gradients, by differences and by the reference."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn import losses, stages, utils
from fastcnn.layers import (
    LAYERS,
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    LeakyReLU,
    MaxPooling2D,
    RandomFlip,
    RandomRotation,
    RandomTranslation,
    RandomZoom,
    ReLU,
    Rescaling,
    Reshape,
    Softmax,
    ZeroPadding2D,
)
from fastcnn.models import Sequential, load_model

RNG = np.random.default_rng(7)
SHAPE = (7, 6, 2)
X = RNG.normal(size=(5, *SHAPE))
Y = np.array([0, 2, 1, 2, 0])
SOFT = RNG.dirichlet(np.ones(3), 5)

NETWORKS = {
    "strides and same": lambda: [
        Conv2D(3, 3, (2, 1), "same", activation="relu", bias_initializer="random_normal"),
        MaxPooling2D(3, 2, "same"),
        Flatten(),
        Dense(3, "softmax"),
    ],
    "padding by hand": lambda: [
        ZeroPadding2D(((1, 0), (2, 1))),
        Conv2D(3, (2, 3), 2, activation="tanh"),
        AveragePooling2D(2, 1, "same"),
        GlobalAveragePooling2D(),
        Dense(3, "softmax"),
    ],
    "overlapping windows": lambda: [
        Conv2D(4, 2, use_bias=False),
        BatchNormalization(),
        Activation("sigmoid"),
        MaxPooling2D(3, 1, ties="all"),
        GlobalMaxPooling2D(keepdims=True),
        Flatten(),
        Dense(3),
        Softmax(),
    ],
    "bare normalization": lambda: [
        Rescaling(2.0, -0.1),
        Conv2D(3, 3, activation="gelu"),
        BatchNormalization(center=False, scale=False, epsilon=0.1),
        AveragePooling2D((2, 3)),
        Reshape((-1,)),
        Dense(6, "sigmoid"),
        BatchNormalization(),
        Dense(3),
        Activation("softmax"),
    ],
    "dropout": lambda: [
        Conv2D(3, 2, strides=2),
        LeakyReLU(0.2),
        Dropout(0.3),
        Flatten(),
        Dense(8, "relu"),
        Dropout(0.5, seed=2),
        Dense(4, "gelu"),
        ReLU(negative_slope=0.1),
        Dense(3, "softmax"),
    ],
    "augmentation": lambda: [
        RandomTranslation(0.2, 0.1),
        Conv2D(3, 2, activation="tanh"),
        RandomRotation(0.1, "nearest", seed=2),
        RandomFlip("horizontal"),
        RandomZoom(0.2, fill_mode="constant", fill_value=0.5),
        Flatten(),
        Dense(3, "softmax"),
    ],
    "softmax inside": lambda: [
        Reshape((7, 2, 6)),
        Conv2D(3, 2, activation="softmax"),
        GlobalMaxPooling2D(),
        Dense(5, "softmax"),
        Dense(3, "softmax"),
    ],
}
LOSSES = {
    "sparse": (losses.SparseCategoricalCrossentropy(), Y),
    "smooth": (losses.CategoricalCrossentropy(label_smoothing=0.2), np.eye(3)[Y]),
    "soft": (losses.CategoricalCrossentropy(), SOFT),
    "mse": (losses.MeanSquaredError(), SOFT),
}


def network(name, loss="sparse", backend="im2col", **options):
    options.setdefault("dtype", "float64")
    model = Sequential(NETWORKS[name](), backend=backend, seed=3, **options)
    model.compile("sgd", LOSSES[loss][0])
    model.build((None, *SHAPE))
    draws = np.random.default_rng(1)
    spread = [np.abs(w) + 0.5 if w.ndim == 1 and (w >= 0).all() else w for w in model.get_weights()]
    model.set_weights([w + 0.1 * draws.random(w.shape) for w in spread])
    return model


def by_differences(function, array, count=6, step=1e-6):
    """Central differences of `function` at some elements of `array`, which is changed for the while."""
    draws = np.random.default_rng(0)
    chosen = draws.permutation(array.size)[:count]
    slopes = []
    for position in chosen:
        kept = array.flat[position]
        ends = []
        for end in (kept + step, kept - step):
            array.flat[position] = end
            ends.append(function())
        array.flat[position] = kept
        slopes.append((ends[0] - ends[1]) / (2 * step))
    return chosen, np.array(slopes)


def test_every_layer_is_in_a_network():
    assert {type(layer) for make in NETWORKS.values() for layer in make()} == set(LAYERS.values())


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_what_differences_say(name, loss, training):
    model, y, x = network(name, loss), LOSSES[loss][1], X.copy()
    weight = np.array([1.0, 0.5, 2.0, 0.0, 1.5])
    found = model.gradients(x, y, training, sample_weight=weight)
    chosen, slopes = by_differences(lambda: model.gradients(x, y, training, weight).loss, x, 12)
    assert found.input.shape == x.shape
    np.testing.assert_allclose(found.input.flat[chosen], slopes, atol=1e-8)
    weights = model.get_weights()
    assert [g.shape for g in found.weights] == [w.shape for w in weights]

    def loss_of():
        model.set_weights(weights)
        return model.gradients(x, y, training, weight).loss

    for array, gradient in zip(weights, found.weights, strict=True):
        chosen, slopes = by_differences(loss_of, array)
        np.testing.assert_allclose(gradient.flat[chosen], slopes, atol=1e-8)
    assert any(np.abs(g).max() > 1e-4 for g in found.weights)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_reference_agrees(name, training):
    mine = network(name, "soft").gradients(X, SOFT, training)
    truth = network(name, "soft", "reference").gradients(X, SOFT, training)
    assert mine.loss == pytest.approx(truth.loss, rel=1e-12)
    for one, other in zip([mine.input, *mine.weights], [truth.input, *truth.weights], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(network(name).predict(X), network(name, backend="reference").predict(X), rtol=1e-9)


@pytest.mark.parametrize("name", ["strides and same", "overlapping windows", "dropout"])
def test_the_same_seed_gives_the_same_bits_on_one_and_two_threads(name):
    before = utils.get_threads()
    weights = []
    try:
        for threads in (1, before):
            utils.set_threads(threads)
            model = network(name, "sparse", "numba", dtype=None)
            model.fit(np.repeat(X, 8, axis=0), np.repeat(Y, 8), batch_size=20, epochs=2, verbose=0)
            weights.append([w.tobytes() for w in model.get_weights()])
    finally:
        utils.set_threads(before)
    assert weights[0] == weights[1]


@pytest.mark.parametrize("name", NETWORKS)
def test_float32_networks_train_in_float32_and_move_every_weight_that_learns(name):
    model = network(name, "soft", dtype="float32")
    before = model.get_weights()
    model.fit(X.astype(np.float32), SOFT, epochs=2, verbose=0)
    assert all(w.dtype == np.float32 for w in model.get_weights())
    assert all((old != new).any() for old, new in zip(before, model.get_weights(), strict=True))
    found = model.gradients(X.astype(np.float32), SOFT, training=True)
    assert {g.dtype for g in [found.input, *found.weights]} == {np.dtype(np.float32)}


def test_gradients_change_nothing():
    for name in NETWORKS:
        model, twin = network(name), network(name)
        before = model.get_weights()
        first = model.gradients(X, Y, training=True)
        second = model.gradients(X, Y, training=True)
        np.testing.assert_array_equal(first.input, second.input)
        for old, new in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)
        for other in (model, twin):
            other.fit(X, Y, verbose=0)
        for mine, other in zip(model.get_weights(), twin.get_weights(), strict=True):
            np.testing.assert_array_equal(mine, other)


def test_dropout_drops_its_share_keeps_the_mean_and_rests_in_inference():
    model = Sequential([Dropout(0.25, input_shape=(2000,))], backend="im2col", seed=5, dtype="float64")
    model.compile("sgd", "mse")
    x = np.full((20, 2000), 3.0)
    np.testing.assert_array_equal(model.predict(x), x)
    scale = 2 * 3.0 / x.size  # the gradient of mean(y * y) / y at x = 3, with y = 0 or 3 / 0.75
    gradient = model.gradients(x, np.zeros_like(x), training=True).input
    np.testing.assert_allclose(np.unique(gradient), [0.0, scale / 0.75**2], rtol=1e-12)
    assert (gradient == 0).mean() == pytest.approx(0.25, abs=0.01)
    assert len(np.unique((gradient == 0).sum(axis=1))) > 5
    assert np.count_nonzero(gradient[0] == gradient[1]) < 2000


def test_masks_come_from_the_models_seed_and_differ_from_batch_to_batch():
    def losses_of(seed):
        model = Sequential([Flatten(), Dropout(0.5), Dense(3, "softmax", trainable=False)], backend="im2col", seed=seed)
        model.compile("sgd", "sparse_categorical_crossentropy")
        model.build((None, *SHAPE))
        model.set_weights([np.linspace(-1, 1, 84 * 3).reshape(84, 3), np.zeros(3)])
        return model.fit(X, Y, epochs=4, shuffle=False, verbose=0).history["loss"]

    assert losses_of(1) == losses_of(1)
    assert losses_of(1) != losses_of(2)
    assert len(set(losses_of(1))) == 4


@pytest.mark.parametrize(("backend", "fused"), [("reference", True), ("numba", False), ("numba", True)])
def test_every_backend_draws_the_same_masks(backend, fused):
    x = np.random.default_rng(0).uniform(1, 2, (130, 9, 8, 1)).astype(np.float32)  # more than a kernel's task of 8192

    def gradient(backend, fused=True):
        model = Sequential([Dropout(0.3, input_shape=x.shape[1:]), Dropout(0.7)], backend=backend, seed=3)
        model.compile("sgd", "mse", fused=fused)
        model.train_on_batch(x, np.zeros_like(x))
        return model.gradients(x, np.zeros_like(x), training=True).input

    expected = gradient("im2col")
    assert (expected == 0).mean() == pytest.approx(1 - 0.7 * 0.3, abs=0.02)
    np.testing.assert_allclose(gradient(backend, fused), expected, rtol=1e-6)


def test_batch_normalization_is_keras():
    layer = BatchNormalization(momentum=0.9, epsilon=0.01)
    model = Sequential([layer], backend="im2col", dtype="float64", seed=0)
    model.compile("sgd", "mse")
    target = np.zeros((5, *SHAPE))
    model.fit(X, target, batch_size=5, verbose=0, shuffle=False)
    mean, variance = X.mean(axis=(0, 1, 2)), X.var(axis=(0, 1, 2))
    gamma, beta, moving_mean, moving_variance = model.get_weights()
    np.testing.assert_allclose(moving_mean, 0.1 * mean)
    np.testing.assert_allclose(moving_variance, 0.9 + 0.1 * variance)
    expected = gamma * (X - moving_mean) / np.sqrt(moving_variance + 0.01) + beta
    np.testing.assert_allclose(model.predict(X), expected)


def test_frozen_batch_normalization_uses_and_keeps_its_moving_statistics():
    layer = BatchNormalization(trainable=False)
    model = Sequential([layer, Flatten(), Dense(3, "softmax")], backend="im2col", dtype="float64", seed=0)
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.build((None, *SHAPE))
    loss = model.evaluate(X, Y, verbose=0)
    assert model.gradients(X, Y, training=True).loss == pytest.approx(loss, rel=1e-12)
    before = model.get_weights()
    model.fit(X, Y, verbose=0)
    for old, new in zip(before[:4], model.get_weights()[:4], strict=True):
        np.testing.assert_array_equal(old, new)
    assert not np.array_equal(before[4], model.get_weights()[4])


def test_a_layer_that_is_thawed_between_steps_learns():
    model = network("dropout")
    model.layers[0].trainable = False
    kernel = model.get_weights()[0]
    model.train_on_batch(X, Y)
    np.testing.assert_array_equal(model.get_weights()[0], kernel)
    model.layers[0].trainable = True
    model.train_on_batch(X, Y)
    assert not np.array_equal(model.get_weights()[0], kernel)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_come_back_from_their_files(name, tmp_path):
    model = network(name, "smooth", dtype="float32")
    model.fit(X, np.eye(3)[Y], verbose=0)
    model.save(tmp_path / "m")
    again = load_model(tmp_path / "m", backend="im2col")
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert again.get_config() == model.get_config()
    assert again.loss.get_config() == model.loss.get_config()
    assert [p.trainable for p in again._parameters()] == [p.trainable for p in model._parameters()]


def test_the_tutorials_plan_is_for_the_tutorials_convolution_only():
    def made(conv, pool):
        return [Conv2D(4, 3, **conv), MaxPooling2D(2, **pool), Flatten(), Dense(3, "softmax")]

    assert stages.recognise(made({}, {"strides": 2})) is not None
    for conv, pool in (
        ({"strides": 2}, {}),
        ({"padding": "same"}, {}),
        ({"activation": "relu"}, {}),
        ({}, {"strides": 1}),
        ({}, {"padding": "same"}),
    ):
        assert stages.recognise(made(conv, pool)) is None
